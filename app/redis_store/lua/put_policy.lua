-- Put policies where this server has none or an older one, and let running counters know at once; put counters where it has
-- none.
--
-- KEYS[1..n]      policy copies of n profiles
-- KEYS[n+1..2n]   their live counters
-- KEYS[2n+1..3n]  the dirty set of each profile's bucket
-- KEYS[3n+1]      the mark of one of these buckets (hash)
-- ARGV[1]         life of a policy copy in seconds
-- ARGV[2]         life of counters that PostgreSQL has, in seconds
-- ARGV[3]         instant in ms; 0 takes this server's clock
-- ARGV[4]         MessagePack {max_gap_ms, puts, watermark, generation}: puts are n arrays {version, terms, generation},
--                 the terms of the running day as an array of DayTerms, or an empty string, and the generation of the
--                 bucket; then that mark, as the caller knows it
-- ARGV[5..n+4]    n policies as MessagePack
-- ARGV[n+5..2n+4] n counters as last flushed (MessagePack array of Live), empty where there are none
-- returns         the positions of the policies that were newer; nothing when this server knows less than the caller, or
--                 has been noticed to have known less: then nothing was put
--
-- Newer wins, so puts may be repeated and reordered. A limit that changes during a day is kept with that day's balance
-- even if the child never beats again: the counters take the new terms here and become dirty. Counters of an older
-- generation are left alone; they are merged, with the policy of then, before they count on. Flushed counters are put
-- only where there are none: whoever does so has read the same rows.

local at_ms = instant(ARGV[3])
local max_gap_ms, puts, known_watermark, known_generation = unpack(cmsgpack.unpack(ARGV[4]))
local mark = redis.call('HMGET', KEYS[#KEYS], 'watermark', 'generation')
if tonumber(mark[1] or 0) < known_watermark or tonumber(mark[2] or 0) > known_generation then return false end
local n = #puts

-- Extra time for a child that is blocked counts from now: what it played since its last beat was beyond the allowance.
local function settle_overrun(s)
  local elapsed_ms = at_ms - s[L_LAST_BEAT_MS]
  local is_running = s[L_SESSION_ID] ~= '' and s[L_HAS_ENDED] == 0 and s[L_PAUSED_SINCE_MS] == 0
  local is_blocked = s[L_ALLOWANCE_MS] ~= -1 and s[L_USED_MS] >= s[L_ALLOWANCE_MS] and s[L_IS_EDUCATIONAL] == 0
  if is_running and is_blocked and elapsed_ms > 0 and elapsed_ms <= max_gap_ms and at_ms < s[L_DAY_ENDS_MS] then
    s[L_OVERRUN_MS] = s[L_OVERRUN_MS] + elapsed_ms
    s[L_SESSION_OVERRUN_MS] = s[L_SESSION_OVERRUN_MS] + elapsed_ms
    s[L_WATCHED_MS] = s[L_WATCHED_MS] + elapsed_ms
    s[L_LAST_BEAT_MS] = at_ms
  end
end

local found = redis.call('MGET', unpack(KEYS, 1, 2 * n))
local newer = {}
for i = 1, n do
  local version, terms, generation = unpack(puts[i])
  local known, raw = found[i], found[n + i]
  -- The version is the third element of the policy's array.
  if not known or cmsgpack.unpack(known)[3] < version then
    redis.call('SET', KEYS[i], ARGV[i + 4], 'EX', ARGV[1])
    newer[#newer + 1] = i
  end
  local s = raw and cmsgpack.unpack(raw)
  local flushed = ARGV[n + i + 4]
  if not s and flushed ~= '' then
    redis.call('SET', KEYS[n + i], flushed, 'EX', ARGV[2])
  elseif s and s[L_POLICY_VERSION] < version and s[L_GENERATION] >= generation then
    s[L_POLICY_VERSION] = version
    if terms ~= '' and s[L_DAY_NUMBER] == terms[D_NUMBER] then
      settle_overrun(s)
      s[L_LIMIT_MS], s[L_ALLOWANCE_MS] = terms[D_LIMIT_MS], terms[D_ALLOWANCE_MS]
    end
    s[L_VERSION] = math.max(s[L_VERSION] + 1, at_ms)
    if s[L_DIRTY_SINCE_MS] == 0 then
      s[L_DIRTY_SINCE_MS] = at_ms
      redis.call('ZADD', KEYS[2 * n + i], at_ms, string.sub(KEYS[i], -36))
    end
    redis.call('SET', KEYS[n + i], cmsgpack.pack(s))
  end
end
return newer
