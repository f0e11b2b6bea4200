-- Read what adults play.
--
-- KEYS[i]   running sessions of adult i (sorted set, see keep_sessions.lua)
-- ARGV[1]   silence (ms) after which a session has ended
-- ARGV[2]   instant to judge at; 0 takes this server's clock
-- returns   for each adult {description, instant (ms) of the last beat, description, ...}

local at_ms = instant(ARGV[2])
local answer = {}
for i = 1, #KEYS do
  answer[i] = redis.call('ZRANGEBYSCORE', KEYS[i], at_ms - tonumber(ARGV[1]), at_ms, 'WITHSCORES')
end
return answer
