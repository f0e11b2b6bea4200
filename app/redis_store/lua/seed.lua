-- Put counters recovered from PostgreSQL where this server has none or only those of an older generation.
--
-- KEYS[1..n]     live counters of n profiles
-- KEYS[n+1..2n]  the dirty set of each profile's bucket
-- ARGV[1]        MessagePack of n arrays of Live
-- ARGV[2]        life of clean counters in seconds
-- ARGV[3]        instant in ms; 0 takes this server's clock
-- returns        the number of children seeded
--
-- Racing seeders agree: the first wins, and all read the same rows. Counters of an older generation are found when the
-- server came back with an old state: then whichever knows the later beat goes on, be it of an earlier day that was
-- never flushed. Where both tell of one day its counters are merged: they only grow, so the larger is right.

local at_ms = instant(ARGV[3])

local function merged(old, new)
  local later, earlier = new, old
  if old[L_LAST_BEAT_MS] >= new[L_LAST_BEAT_MS] then later, earlier = old, new end
  if old[L_DAY_NUMBER] == new[L_DAY_NUMBER] then
    for _, field in ipairs({L_USED_MS, L_EDUCATIONAL_MS, L_OVERRUN_MS}) do
      later[field] = math.max(later[field], earlier[field])
    end
  end
  later[L_GENERATION] = new[L_GENERATION]
  later[L_POLICY_VERSION] = math.max(old[L_POLICY_VERSION], new[L_POLICY_VERSION])
  later[L_VERSION] = math.max(old[L_VERSION], new[L_VERSION]) + 1
  later[L_DIRTY_SINCE_MS] = at_ms
  return later
end

local lives = cmsgpack.unpack(ARGV[1])
local seeded = 0
for i = 1, #lives do
  local raw = redis.call('GET', KEYS[i])
  local old = raw and cmsgpack.unpack(raw)
  if not old then
    redis.call('SET', KEYS[i], cmsgpack.pack(lives[i]), 'EX', ARGV[2])
    seeded = seeded + 1
  elseif old[L_GENERATION] < lives[i][L_GENERATION] then
    redis.call('SET', KEYS[i], cmsgpack.pack(merged(old, lives[i])))
    redis.call('ZADD', KEYS[#lives + i], 'NX', at_ms, string.sub(KEYS[i], -36))
    seeded = seeded + 1
  end
end
return seeded
