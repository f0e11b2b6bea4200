-- Conclude a comparison of a PIN or password: its reservation ends, and a wrong answer counts.
--
-- KEYS[1]   attempts: a zset of 'w<id>' (wrong) and 'r<id>' (reserved) by instant (ms)
-- ARGV[1]   id of the reservation; empty for none
-- ARGV[2]   how long wrong attempts are kept (ms)
-- ARGV[3]   'right': the wrong attempts are forgotten; 'wrong': this is one more; 'void': no result;
--           'known': ARGV[4..] are all that count, from where they are safe
-- ARGV[4]   instant (ms) of the wrong attempt
-- ARGV[5]   window (ms) of those before it that count

local id, what = ARGV[1], ARGV[3]
redis.call('ZREM', KEYS[1], 'r' .. id)
if what == 'void' then return 1 end

local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #found, 2 do
  local is_wrong = string.sub(found[i], 1, 1) == 'w'
  local is_too_old = what == 'wrong' and tonumber(found[i + 1]) + tonumber(ARGV[5]) <= tonumber(ARGV[4])
  if is_wrong and (what ~= 'wrong' or is_too_old) then redis.call('ZREM', KEYS[1], found[i]) end
end
if what == 'wrong' then
  redis.call('ZADD', KEYS[1], ARGV[4], 'w' .. id)
elseif what == 'known' then
  for i = 4, #ARGV do redis.call('ZADD', KEYS[1], ARGV[i], 'w' .. i .. ':' .. ARGV[i]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
