-- Read counters together with this server's clock.
--
-- KEYS[1..n]  live counters
-- ARGV[1]     instant to answer; 0 takes this server's clock
-- returns     {at_ms, counters or '' ...} with n counters as stored

local at_ms = tonumber(ARGV[1])
if at_ms == 0 then
  local t = redis.call('TIME')
  at_ms = t[1] * 1000 + math.floor(t[2] / 1000)
end
local answer = {at_ms}
for i = 1, #KEYS do answer[i + 1] = redis.call('GET', KEYS[i]) or '' end
return answer
