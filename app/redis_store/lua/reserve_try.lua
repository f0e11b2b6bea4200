-- Reserve one comparison of a PIN or password before it is made, so that parallel guesses share one count.
--
-- KEYS[1]   instants (ms) of the last tries that were not right, ascending: a list
-- ARGV[1]   now (ms)
-- ARGV[2]   tries within the window that lock
-- ARGV[3]   window (ms)
-- ARGV[4]   how long a lock lasts after the last try (ms)
-- ARGV[5]   1: the list follows in ARGV[6..] in case there is none here; 0: say when there is none
-- returns   nothing when there is none and none was given; else {1 to compare or 0 when locked, instants...}
--
-- A reservation counts as wrong until the key is removed after a right one. So an interrupted comparison is a try, too.

local now_ms, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local window_ms, lock_ms = tonumber(ARGV[3]), tonumber(ARGV[4])

local tried = redis.call('LRANGE', KEYS[1], 0, -1)
if #tried == 0 then
  if ARGV[5] == '0' then return false end
  for i = 6, #ARGV do tried[#tried + 1] = ARGV[i] end
end

local may_compare = 1
local kept = {}
if #tried >= most and now_ms < tried[#tried] + lock_ms then
  may_compare = 0
  kept = tried
else
  if #tried < most then
    for i = 1, #tried do
      if tried[i] + window_ms > now_ms then kept[#kept + 1] = tried[i] end
    end
  end
  kept[#kept + 1] = ARGV[1]
end

redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], unpack(kept))
redis.call('PEXPIRE', KEYS[1], math.max(window_ms, lock_ms))
local answer = {may_compare}
for i = 1, #kept do answer[i + 1] = tonumber(kept[i]) end
return answer
