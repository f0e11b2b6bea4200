-- Forget what PostgreSQL has, unless it changed since it was read.
--
-- KEYS[1]     dirty set of a bucket
-- KEYS[2]     closed sessions and days of the bucket
-- KEYS[3..]   counters of n of its profiles
-- ARGV[1]     life of clean counters in seconds
-- ARGV[2]     instant (ms) at which they were read
-- ARGV[3]     MessagePack {versions, closed}: n versions as read; closed as arrays {field, version}
-- returns     the number of children that are clean now
--
-- A child that beat meanwhile stays dirty, since the instant of the reading.
--
-- Counters are not unpacked as a whole: their first elements, up to C_DIRTY_SINCE_MS, lie behind the three bytes that
-- begin an array of more than 15, and what follows them stays as it is.

local HEADER_BYTES = 3

local ttl_seconds, read_ms = ARGV[1], tonumber(ARGV[2])
local call = cmsgpack.unpack(ARGV[3])
local versions, closed = call[1], call[2]
local clean = 0
for i = 1, #versions do
  local key = KEYS[i + 2]
  local profile_id = string.sub(key, -36)
  local raw = redis.call('GET', key)
  local s = raw and {cmsgpack.unpack_limit(raw, C_DIRTY_SINCE_MS, HEADER_BYTES)}
  local rest_at = s and table.remove(s, 1)
  if not s then
    redis.call('ZREM', KEYS[1], profile_id)
  elseif s[C_VERSION] == versions[i] then
    s[C_DIRTY_SINCE_MS] = 0
    local clean_raw = string.sub(raw, 1, HEADER_BYTES) .. cmsgpack.pack(unpack(s)) .. string.sub(raw, rest_at + 1)
    redis.call('SET', key, clean_raw, 'EX', ttl_seconds)
    redis.call('ZREM', KEYS[1], profile_id)
    clean = clean + 1
  else
    redis.call('ZADD', KEYS[1], 'XX', read_ms, profile_id)
  end
end
for i = 1, #closed do
  local raw = redis.call('HGET', KEYS[2], closed[i][1])
  if raw and cmsgpack.unpack(raw)[C_VERSION] == closed[i][2] then redis.call('HDEL', KEYS[2], closed[i][1]) end
end
return clean
