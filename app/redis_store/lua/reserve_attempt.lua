-- Reserve one comparison of a PIN or password before it is made, so that parallel guesses share one count.
--
-- KEYS[1]   attempts: a zset of 'w<id>' (wrong) and 'r<id>' (reserved, under way) by the instant (ms) they were made
-- ARGV[1]   now (ms)
-- ARGV[2]   wrong attempts within the window that lock
-- ARGV[3]   window (ms)
-- ARGV[4]   how long a lock lasts after the last wrong attempt (ms)
-- ARGV[5]   life of a reservation (ms)
-- ARGV[6]   id of the new reservation
-- returns   {0, 0} reserved; {1, instant} locked until then; {2, 0} all comparisons that may be made are under way
--
-- A comparison under way is not a wrong attempt. A reservation without a result ends by its age: the process that
-- compared has died. So does one from the future, after the clock was set back.
-- Wrong attempts that lie ahead mean that the clock fell: they count as made now, so no lock lasts longer than the rule says.
-- It is one key, since a slot that moves to another node refuses calls about several.

local now_ms, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local window_ms, lock_ms, life_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local wrong, last_ms, recent, under_way, gone = {}, 0, 0, 0, {}
for i = 1, #found, 2 do
  local member, ms = found[i], tonumber(found[i + 1])
  if string.sub(member, 1, 1) == 'w' then
    if ms > now_ms then
      ms = now_ms
      redis.call('ZADD', KEYS[1], ARGV[1], member)
    end
    wrong[#wrong + 1] = member
    last_ms = math.max(last_ms, ms)
    if ms + window_ms > now_ms then recent = recent + 1 end
  elseif math.abs(now_ms - ms) < life_ms then
    under_way = under_way + 1
  else
    gone[#gone + 1] = member
  end
end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end

if #wrong >= most then
  if now_ms < last_ms + lock_ms then return {1, last_ms + lock_ms} end
  redis.call('ZREM', KEYS[1], unpack(wrong))
  recent = 0
end
if recent + under_way >= most then return {2, 0} end
redis.call('ZADD', KEYS[1], ARGV[1], 'r' .. ARGV[6])
redis.call('PEXPIRE', KEYS[1], math.max(window_ms, lock_ms, life_ms))
return {0, 0}
