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
-- Counters are not unpacked as a whole: the instant at which they became dirty is replaced where it stands. The arrays of
-- this call are no longer than the largest batch of a flush, which Lua can pass as arguments.

local HEADER_BYTES = 3 -- of an array of more than 15
local CLEAN = '\0' -- the number 0

local ttl_seconds, read_ms = ARGV[1], tonumber(ARGV[2])
local call = cmsgpack.unpack(ARGV[3])
local versions, closed = call[1], call[2]
local found = #versions > 0 and redis.call('MGET', unpack(KEYS, 3)) or {}
local clean, gone = 0, {}
for i = 1, #versions do
  local key, raw = KEYS[i + 2], found[i]
  local profile_id = string.sub(key, -36)
  local dirty_at, version
  if raw then dirty_at, version = cmsgpack.unpack_limit(raw, C_DIRTY_SINCE_MS - 1, HEADER_BYTES) end
  if not raw then
    gone[#gone + 1] = profile_id
  elseif version == versions[i] then
    local rest_at = cmsgpack.unpack_limit(raw, 1, dirty_at)
    redis.call('SET', key, string.sub(raw, 1, dirty_at) .. CLEAN .. string.sub(raw, rest_at + 1), 'EX', ttl_seconds)
    gone[#gone + 1] = profile_id
    clean = clean + 1
  else
    redis.call('ZADD', KEYS[1], 'XX', read_ms, profile_id)
  end
end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
for i = 1, #closed do
  local raw = redis.call('HGET', KEYS[2], closed[i][1])
  if raw and cmsgpack.unpack(raw)[C_VERSION] == closed[i][2] then redis.call('HDEL', KEYS[2], closed[i][1]) end
end
return clean
