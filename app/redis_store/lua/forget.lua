-- Forget what PostgreSQL has, unless it changed since it was read.
--
-- KEYS[1]     dirty set of a bucket
-- KEYS[2]     closed sessions and days of the bucket
-- KEYS[3..]   live counters of n of its profiles
-- ARGV[1]     life of clean counters in seconds
-- ARGV[2]     instant (ms) at which they were read
-- ARGV[3]     MessagePack {versions, closed}: n versions as read; closed as arrays {field, version}
-- returns     the number of children that are clean now
--
-- A child that beat meanwhile stays dirty, since the instant of the reading.
--
-- Of the counters only the head is read, up to L_DIRTY_SINCE_MS, behind the three bytes that begin an array of more than
-- 15. That one number is overwritten in its place: zeros behind the byte that tells an integer's length are 0, too.

local HEADER_BYTES, LONGEST_INTEGER_BYTES = 3, 9
local HEAD_BYTES = HEADER_BYTES + L_DIRTY_SINCE_MS * LONGEST_INTEGER_BYTES

local ttl_seconds, read_ms = ARGV[1], tonumber(ARGV[2])
local call = cmsgpack.unpack(ARGV[3])
local versions, closed = call[1], call[2]
local settled, clean = {}, 0
for i = 1, #versions do
  local key = KEYS[i + 2]
  local profile_id = string.sub(key, -36)
  local head = redis.call('GETRANGE', key, 0, HEAD_BYTES)
  local found = head ~= '' and {cmsgpack.unpack_limit(head, L_DIRTY_SINCE_MS, HEADER_BYTES)}
  if not found then
    settled[#settled + 1] = profile_id
  elseif found[1 + L_VERSION] == versions[i] then
    local zeros = math.max(1, #cmsgpack.pack(found[1 + L_DIRTY_SINCE_MS]) - 1)
    redis.call('SETRANGE', key, found[1] - zeros, string.rep('\0', zeros))
    redis.call('EXPIRE', key, ttl_seconds)
    settled[#settled + 1] = profile_id
    clean = clean + 1
  else
    redis.call('ZADD', KEYS[1], 'XX', read_ms, profile_id)
  end
end
if #settled > 0 then redis.call('ZREM', KEYS[1], unpack(settled)) end
for i = 1, #closed do
  local raw = redis.call('HGET', KEYS[2], closed[i][1])
  if raw and cmsgpack.unpack(raw)[L_VERSION] == closed[i][2] then redis.call('HDEL', KEYS[2], closed[i][1]) end
end
return clean
