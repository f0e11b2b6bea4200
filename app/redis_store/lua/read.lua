-- Read counters together with this server's clock.
--
-- KEYS[1..n]  counters of n profiles
-- KEYS[n+1]   the mark of one of their buckets (hash)
-- ARGV[1]     instant to answer; 0 takes this server's clock
-- ARGV[2]     watermark of that mark, as the caller knows it
-- ARGV[3]     its generation, likewise
-- returns     {at_ms, counters or '' ...} with n counters as stored; nothing when this server knows less than the
--             caller, or has been noticed to have known less

local mark = redis.call('HMGET', KEYS[#KEYS], 'watermark', 'generation')
if tonumber(mark[1] or 0) < tonumber(ARGV[2]) or tonumber(mark[2] or 0) > tonumber(ARGV[3]) then return false end
local at_ms = instant(ARGV[1])
local answer = {at_ms}
for i = 1, #KEYS - 1 do answer[i + 1] = redis.call('GET', KEYS[i]) or '' end
return answer
