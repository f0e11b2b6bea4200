-- Put counters recovered from PostgreSQL where this server has none or only those of an older generation.
--
-- KEYS[1..n]     counters of n profiles
-- KEYS[n+1..2n]  the dirty set of each profile's bucket
-- ARGV[1]        MessagePack of n arrays of Counters
-- ARGV[2]        life of clean counters in seconds
-- ARGV[3]        instant in ms; 0 takes this server's clock
-- returns        the number of children seeded
--
-- Racing processes agree: the first wins, and all read the same rows. Counters of an older generation exist if the server
-- came back with older data. Then the counters with the later beat continue, even those of an earlier day that was never
-- flushed; of one beat the newer version, because an end may come in its millisecond. Counters of the same day are merged: they only grow, so the larger value is right.

local at_ms = instant(ARGV[3])

local function merged(old, new)
  local later, earlier = new, old
  local ahead_ms = old[C_LAST_BEAT_MS] - new[C_LAST_BEAT_MS]
  if ahead_ms > 0 or (ahead_ms == 0 and old[C_VERSION] >= new[C_VERSION]) then later, earlier = old, new end
  if old[C_DAY_NUMBER] == new[C_DAY_NUMBER] then
    for _, field in ipairs({
      C_USED_MS, C_EDUCATIONAL_MS, C_OVERRUN_MS, C_ABANDONED_SESSIONS, C_BORROWED_MS, C_OWED_MS,
    }) do
      later[field] = math.max(later[field] or 0, earlier[field] or 0)
    end
  end
  later[C_WEEK] = (later[C_WEEK] and #later[C_WEEK] > 0) and later[C_WEEK] or earlier[C_WEEK]
  later[C_GENERATION] = new[C_GENERATION]
  later[C_POLICY_VERSION] = math.max(old[C_POLICY_VERSION], new[C_POLICY_VERSION])
  later[C_VERSION] = math.max(old[C_VERSION], new[C_VERSION]) + 1
  later[C_DIRTY_SINCE_MS] = at_ms
  return later
end

local lives = cmsgpack.unpack(ARGV[1])
local seeded = 0
for i = 1, #lives do
  local raw = redis.call('GET', KEYS[i])
  local old = raw and cmsgpack.unpack(raw)
  if not old then
    redis.call('SET', KEYS[i], packed(lives[i]), 'EX', ARGV[2])
    seeded = seeded + 1
  elseif old[C_GENERATION] < lives[i][C_GENERATION] then
    redis.call('SET', KEYS[i], packed(merged(old, lives[i])))
    redis.call('ZADD', KEYS[#lives + i], 'NX', at_ms, string.sub(KEYS[i], -36))
    seeded = seeded + 1
  end
end
return seeded
