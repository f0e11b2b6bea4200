-- Put policies where this server has none or an older one, and let running counters know at once; put counters where it has
-- none.
--
-- KEYS[1..n]      policy copies of n profiles
-- KEYS[n+1..2n]   the counters of these profiles
-- KEYS[2n+1..3n]  the dirty set of each profile's bucket
-- KEYS[3n+1]      the mark of one of these buckets (hash)
-- ARGV[1]         life of a policy copy in seconds
-- ARGV[2]         life of counters that PostgreSQL has, in seconds
-- ARGV[3]         instant in ms; 0 takes this server's clock
-- ARGV[4]         MessagePack {max_gap_ms, puts, watermark, generation}: puts are n arrays {version, terms,
--                 generation, week, breaks}: the terms of the running day as an array of DayTerms, the generation of the
--                 bucket, the weekly limit as an array of WeekTerms, and the rule of a break as one of BreakTerms, each an
--                 empty string where there is none; then that mark, as the caller knows it
-- ARGV[5..n+4]    n policies as MessagePack
-- ARGV[n+5..2n+4] n counters as last flushed (MessagePack array of Counters), empty where there are none
-- returns         the positions of the policies that were newer; nothing when this server knows less than the caller, or
--                 has been noticed to have known less: then nothing was put
--
-- Newer wins, so puts may be repeated and reordered. A limit that changes during a day is kept with that day's balance
-- even if the child never beats again: the counters take the new terms here and become dirty. Counters of an older
-- generation are left alone; they are merged, with the policy of then, before they count on. Flushed counters are put
-- only where there are none: racing processes have read the same rows.

local at_ms = instant(ARGV[3])
local max_gap_ms, puts, known_watermark, known_generation = unpack(cmsgpack.unpack(ARGV[4]))
local mark = redis.call('HMGET', KEYS[#KEYS], 'watermark', 'generation')
if tonumber(mark[1] or 0) < known_watermark or tonumber(mark[2] or 0) > known_generation then return false end
local n = #puts

-- Count what a blocked child played since its last beat, so that extra time counts from now on. It is overrun, and what
-- finished a title is borrowed. Whether learning titles are exempt is the eighth element of a policy's array, as for the next
-- beat; synced time ranges are the thirteenth.
local function settle_overrun(s, policy, breaks)
  local elapsed_ms = at_ms - s[C_LAST_BEAT_MS]
  local is_running = s[C_SESSION_ID] ~= '' and s[C_HAS_ENDED] == 0 and s[C_PAUSED_SINCE_MS] == 0
  local is_blocked = s[C_ALLOWANCE_MS] ~= -1 and s[C_USED_MS] >= s[C_ALLOWANCE_MS]
  if is_running and is_blocked and elapsed_ms > 0 and elapsed_ms <= max_gap_ms and at_ms < s[C_DAY_ENDS_MS] then
    local fields = cmsgpack.unpack(policy)
    if s[C_IS_EDUCATIONAL] == 1 and fields[8] then return end
    local synced = fields[13] or {}
    local played_ms = unsynced(s[C_LAST_BEAT_MS], at_ms, synced)
    credit(s, played_ms, 0, finishing(s, s[C_LAST_BEAT_MS], at_ms, synced))
    s[C_WATCHED_MS] = s[C_WATCHED_MS] + played_ms
    if breaks ~= '' then play(s, breaks, synced, s[C_LAST_BEAT_MS], at_ms) end
    s[C_LAST_BEAT_MS] = at_ms
  end
end

local found = redis.call('MGET', unpack(KEYS, 1, 2 * n))
local newer = {}
for i = 1, n do
  local version, terms, generation, week, breaks = unpack(puts[i])
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
  elseif s and s[C_POLICY_VERSION] < version and s[C_GENERATION] >= generation then
    s[C_POLICY_VERSION] = version
    if week ~= '' then s[C_WEEK] = earlier_days(s, week, s[C_DAY_NUMBER]) end
    if terms ~= '' and s[C_DAY_NUMBER] == terms[D_NUMBER] then
      settle_overrun(s, ARGV[i + 4], breaks)
      put_terms(s, cut(terms, week ~= '' and week_left(week, s[C_WEEK]) or math.huge))
    end
    s[C_VERSION] = math.max(s[C_VERSION] + 1, at_ms)
    if s[C_DIRTY_SINCE_MS] == 0 then
      s[C_DIRTY_SINCE_MS] = at_ms
      redis.call('ZADD', KEYS[2 * n + i], at_ms, string.sub(KEYS[i], -36))
    end
    redis.call('SET', KEYS[n + i], packed(s))
  end
end
return newer
