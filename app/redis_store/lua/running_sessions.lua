-- Read what adults play.
--
-- KEYS[i]   running sessions of adult i (sorted set, see keep_sessions.lua)
-- ARGV[1]   silence (ms) after which a session has ended
-- ARGV[2]   instant to judge at; 0 takes this server's clock
-- returns   for each adult {description, instant (ms) of the last beat, description, ...}

local at_ms = tonumber(ARGV[2])
if at_ms == 0 then
  local t = redis.call('TIME')
  at_ms = t[1] * 1000 + math.floor(t[2] / 1000)
end
local answer = {}
for i = 1, #KEYS do
  answer[i] = redis.call('ZRANGEBYSCORE', KEYS[i], at_ms - tonumber(ARGV[1]), '+inf', 'WITHSCORES')
end
return answer
