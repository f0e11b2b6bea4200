-- Count a batch of beats, each atomically: the twin of app/domain/accounting.py `record`, step by step.
--
-- KEYS[1..n]    live counters of n profiles (string, MessagePack array of Live)
-- KEYS[n+1..]   per bucket in use: its dirty set (zset), then its closed sessions and days (hash)
-- KEYS[#KEYS]   the mark of one of these buckets (hash)
-- ARGV[1]       MessagePack {at_ms, rules, beats, places, generations, watermark, generation}
--                 at_ms   the instant to count at; 0 takes this server's clock
--                 rules   array of Rules
--                 beats   n arrays of Beat
--                 places  per beat, the position in KEYS of its bucket's dirty set
--                 generations  per beat, that of its bucket; counters of an older one count as COLD
--                 watermark, generation  of that mark, as the caller knows them
-- returns       MessagePack of n arrays of Outcome; nothing when this server knows less than the caller, or has been
--               noticed to have known less: then nothing was counted
--
-- Names in capitals (L_ Live, B_ Beat, D_ DayTerms, O_ Outcome) stand for positions; scripts.py fills them in from the classes, so
-- that the layout is written once. Repeating a call credits only the time since the last beat, so a retry is harmless.

local max_gap_ms, pause_grace_ms, long_absence_ms, beat_spacing_ms, beat_burst, longest_unknown_ms

local function copy(s)
  local t = {}
  for i = 1, L_COUNT do t[i] = s[i] end
  return t
end

local function total(s)
  return s[L_SESSION_EARLIER_MS] + s[L_SESSION_USED_MS] + s[L_SESSION_EDUCATIONAL_MS] + s[L_SESSION_OVERRUN_MS]
end

local function outcome(s, status, at_ms, ended_ms, counted_ms, superseded_id)
  local o = {
    status, at_ms, (ended_ms and ended_ms ~= 0) and ended_ms or s[L_LAST_BEAT_MS], s[L_SESSION_ID], total(s),
    s[L_USED_MS], counted_ms or 0, superseded_id or '', s[L_DAY_NUMBER],
  }
  if status ~= STATUS_OK then
    o[O_DAY_STARTS_MS], o[O_DAY_ENDS_MS] = s[L_DAY_STARTS_MS], s[L_DAY_ENDS_MS]
    o[O_POLICY_VERSION], o[O_BY_DEVICE_TYPE] = s[L_POLICY_VERSION], s[L_DEVICE_TYPE]
  end
  return o
end

-- Keep a copy for the flush. What goes on is newer, so that it wins where both tell of the same day.
local function set_aside(s, closed, has_ended)
  local t = copy(s)
  t[L_HAS_ENDED] = has_ended
  closed[#closed + 1] = t
  s[L_VERSION] = s[L_VERSION] + 1
end

-- Educational time apart while exempt; the rest up to the allowance; what is beyond it apart as overrun.
local function credit(s, part_ms, is_exempt)
  if s[L_IS_EDUCATIONAL] == 1 and is_exempt == 1 then
    s[L_EDUCATIONAL_MS] = s[L_EDUCATIONAL_MS] + part_ms
    s[L_SESSION_EDUCATIONAL_MS] = s[L_SESSION_EDUCATIONAL_MS] + part_ms
    return
  end
  local counted_ms = part_ms
  if s[L_ALLOWANCE_MS] ~= -1 then
    counted_ms = math.min(part_ms, math.max(0, s[L_ALLOWANCE_MS] - s[L_USED_MS]))
  end
  s[L_USED_MS] = s[L_USED_MS] + counted_ms
  s[L_SESSION_USED_MS] = s[L_SESSION_USED_MS] + counted_ms
  if counted_ms < part_ms then
    s[L_OVERRUN_MS] = s[L_OVERRUN_MS] + part_ms - counted_ms
    s[L_SESSION_OVERRUN_MS] = s[L_SESSION_OVERRUN_MS] + part_ms - counted_ms
  end
end

-- Fresh counters for the day that follows; a running session goes on in it.
local function begin_day(s, terms)
  s[L_SESSION_EARLIER_MS] = total(s)
  s[L_DAY_NUMBER], s[L_DAY_STARTS_MS], s[L_DAY_ENDS_MS] = terms[D_NUMBER], terms[D_STARTS_MS], terms[D_ENDS_MS]
  s[L_LIMIT_MS], s[L_ALLOWANCE_MS] = terms[D_LIMIT_MS], terms[D_ALLOWANCE_MS]
  s[L_USED_MS], s[L_EDUCATIONAL_MS], s[L_OVERRUN_MS] = 0, 0, 0
  s[L_SESSION_USED_MS], s[L_SESSION_EDUCATIONAL_MS], s[L_SESSION_OVERRUN_MS] = 0, 0, 0
end

local function is_silent(s, at_ms) return at_ms - s[L_LAST_BEAT_MS] > max_gap_ms end

-- Set the session aside for the flush. Answers its id when it was still running and another took over.
local function close(s, closed, closing, at_ms)
  if s[L_SESSION_ID] == '' then return '' end
  local was_running = s[L_HAS_ENDED] == 0 and not is_silent(s, at_ms)
  s[L_PREVIOUS_SESSION_ID] = s[L_SESSION_ID]
  s[L_PREVIOUS_CLOSING] = was_running and closing or CLOSING_ENDED
  s[L_PREVIOUS_ENDED_MS] = was_running and at_ms or s[L_LAST_BEAT_MS]
  if s[L_DIRTY_SINCE_MS] ~= 0 or was_running then set_aside(s, closed, 1) end
  return (was_running and closing == CLOSING_SUPERSEDED) and s[L_SESSION_ID] or ''
end

local function open(s, b, session_id, at_ms)
  s[L_SESSION_ID] = session_id
  s[L_TITLE_ID], s[L_IS_EDUCATIONAL] = b[B_TITLE_ID], b[B_IS_EDUCATIONAL]
  s[L_DEVICE_ID], s[L_DEVICE_TYPE] = b[B_DEVICE_ID], b[B_DEVICE_TYPE]
  s[L_SESSION_STARTED_MS], s[L_LAST_BEAT_MS] = at_ms, at_ms
  s[L_PAUSED_SINCE_MS], s[L_WATCHED_MS], s[L_HAS_ENDED] = 0, 0, 0
  s[L_SESSION_USED_MS], s[L_SESSION_EDUCATIONAL_MS], s[L_SESSION_OVERRUN_MS] = 0, 0, 0
  s[L_SESSION_EARLIER_MS] = 0
end

local RUNNING, NEW, LOST = 'running', 'new', 'lost'

-- The session meant; or nothing, why the beat is refused, and when that session ended.
local function session_meant(s, b, at_ms)
  local is_end = b[B_IS_END] == 1
  local claims = b[B_WATCHED_MS] ~= -1
  local is_previous = b[B_SESSION_ID] == s[L_PREVIOUS_SESSION_ID]
  if b[B_SESSION_ID] == '' then
    if b[B_NEW_SESSION_ID] ~= s[L_SESSION_ID] then return NEW end
    -- else a repeat of the call that opened it
  elseif b[B_SESSION_ID] ~= s[L_SESSION_ID] then
    local is_repeated_retitling = is_previous and s[L_PREVIOUS_CLOSING] == CLOSING_TITLE
      and b[B_TITLE_ID] == s[L_TITLE_ID] and b[B_DEVICE_ID] == s[L_DEVICE_ID] and not is_end
    if not is_repeated_retitling then
      local proof_ms = b[B_PROOF_MS]
      if proof_ms == 0 then return nil, STATUS_UNKNOWN end
      -- The clock that dated the proof may be ahead of ours, but whom we know to be closed was not lost.
      if is_previous or at_ms - proof_ms > longest_unknown_ms or proof_ms <= s[L_SESSION_STARTED_MS] then
        if is_previous and s[L_PREVIOUS_CLOSING] == CLOSING_ENDED then
          return nil, STATUS_ENDED, s[L_PREVIOUS_ENDED_MS]
        end
        local ended_ms = s[L_PREVIOUS_ENDED_MS]
        return nil, STATUS_SUPERSEDED, ended_ms ~= 0 and ended_ms or s[L_SESSION_STARTED_MS]
      end
      local counted_to_ms = math.max(math.min(proof_ms, at_ms), math.min(s[L_LAST_BEAT_MS], at_ms))
      if at_ms - counted_to_ms > max_gap_ms and not claims then return nil, STATUS_ENDED, counted_to_ms end
      return LOST
    end
  end
  if s[L_HAS_ENDED] == 1 or (is_silent(s, at_ms) and not claims) then
    return nil, is_end and STATUS_OK or STATUS_ENDED, s[L_LAST_BEAT_MS]
  end
  return RUNNING
end

-- Whether the given days lead from the running day to the instant. After a long absence they may leave a gap.
local function days_reach(s, days, at_ms)
  local first, last = days[1], days[#days]
  if not first then return false end
  if at_ms < s[L_DAY_ENDS_MS] then return last[D_NUMBER] == s[L_DAY_NUMBER] end
  local follows = first[D_STARTS_MS] <= s[L_DAY_ENDS_MS] or at_ms - s[L_DAY_ENDS_MS] >= long_absence_ms
  return follows and last[D_STARTS_MS] <= at_ms and at_ms < last[D_ENDS_MS]
end

-- Up to when the time since the last beat counts, but for what was synced.
local function counts_until(s, b, at_ms)
  if is_silent(s, at_ms) then
    local reach_ms, synced = s[L_LAST_BEAT_MS] + math.max(0, b[B_WATCHED_MS] - s[L_WATCHED_MS]), b[B_SYNCED]
    for i = 1, #synced do
      local starts_ms, ends_ms = unpack(synced[i])
      if starts_ms < reach_ms then
        reach_ms = reach_ms + math.max(0, ends_ms - math.max(s[L_LAST_BEAT_MS], starts_ms))
      end
    end
    return math.min(at_ms, reach_ms)
  end
  if s[L_PAUSED_SINCE_MS] ~= 0 then return math.min(at_ms, s[L_PAUSED_SINCE_MS] + pause_grace_ms) end
  return at_ms
end

-- How much of a stretch no offline sync was credited for.
local function unsynced(from_ms, until_ms, synced)
  local unsynced_ms = math.max(0, until_ms - from_ms)
  for i = 1, #synced do
    local starts_ms, ends_ms = unpack(synced[i])
    unsynced_ms = unsynced_ms - math.max(0, math.min(until_ms, ends_ms) - math.max(from_ms, starts_ms))
  end
  return unsynced_ms
end

-- The player's count of the session after a beat. A claim made under another session's id says nothing of it.
local function watched_after(s, b, earned_ms)
  if b[B_WATCHED_MS] ~= -1 and (b[B_SESSION_ID] == '' or b[B_SESSION_ID] == s[L_SESSION_ID]) then
    return math.max(s[L_WATCHED_MS], b[B_WATCHED_MS])
  end
  return s[L_PAUSED_SINCE_MS] ~= 0 and s[L_WATCHED_MS] or s[L_WATCHED_MS] + earned_ms
end

-- Credit what counts of the time since the last beat, split at every reset on the way to the instant.
local function credit_by_day(s, b, closed, until_ms, is_unflushed, at_ms)
  local days, is_exempt, synced = b[B_DAYS], b[B_IS_EXEMPT], b[B_SYNCED]
  local cursor_ms = s[L_LAST_BEAT_MS]
  if at_ms < s[L_DAY_ENDS_MS] then
    local last = days[#days]
    s[L_LIMIT_MS], s[L_ALLOWANCE_MS] = last[D_LIMIT_MS], last[D_ALLOWANCE_MS]
    credit(s, unsynced(cursor_ms, until_ms, synced), is_exempt)
    return
  end
  local part_ms = unsynced(cursor_ms, math.min(until_ms, s[L_DAY_ENDS_MS]), synced)
  credit(s, part_ms, is_exempt)
  is_unflushed = is_unflushed or part_ms > 0
  local counted_ms = 0
  for i = 1, #days do
    local terms = days[i]
    if terms[D_STARTS_MS] >= s[L_DAY_ENDS_MS] then
      cursor_ms = math.max(cursor_ms, math.min(until_ms, s[L_DAY_ENDS_MS]))
      counted_ms = counted_ms + part_ms
      if is_unflushed then
        set_aside(s, closed, s[L_HAS_ENDED])
        -- Whoever has this day and not the next goes on from where it is counted to.
        local day = closed[#closed]
        day[L_LAST_BEAT_MS] = cursor_ms
        if s[L_PAUSED_SINCE_MS] == 0 then day[L_WATCHED_MS] = day[L_WATCHED_MS] + counted_ms end
      end
      begin_day(s, terms)
      cursor_ms = math.max(cursor_ms, terms[D_STARTS_MS])
      part_ms = unsynced(cursor_ms, math.min(until_ms, terms[D_ENDS_MS]), synced)
      credit(s, part_ms, is_exempt)
      is_unflushed = part_ms > 0
    end
  end
end

-- Answers the outcome, and the sessions and days set aside when the counters changed.
local function record(s, b, at_ms, generation)
  if s[L_GENERATION] < generation then return outcome(s, STATUS_COLD, at_ms) end
  if s[L_POLICY_VERSION] > b[B_POLICY_VERSION] then return outcome(s, STATUS_STALE, at_ms) end
  local longest_lead_ms = beat_spacing_ms * beat_burst
  local paced_ms = math.max(s[L_PACED_MS], at_ms)
  if paced_ms - at_ms > longest_lead_ms then paced_ms = at_ms end -- the clock fell
  paced_ms = paced_ms + beat_spacing_ms
  if paced_ms - at_ms > longest_lead_ms then return outcome(s, STATUS_TOO_FAST, at_ms) end
  local meant, refusal, ended_ms = session_meant(s, b, at_ms)
  if not meant then return outcome(s, refusal, at_ms, ended_ms) end
  if not days_reach(s, b[B_DAYS], at_ms) then return outcome(s, STATUS_DAY, at_ms) end
  local is_end = b[B_IS_END] == 1
  local changes_title = meant == RUNNING and not is_end and b[B_TITLE_ID] ~= s[L_TITLE_ID]
  if changes_title and b[B_NEW_SESSION_ID] == '' then return outcome(s, STATUS_NEEDS_ID, at_ms) end

  local day_before, used_before_ms = s[L_DAY_NUMBER], s[L_USED_MS]
  s[L_VERSION] = math.max(s[L_VERSION] + 1, at_ms)
  s[L_POLICY_VERSION] = b[B_POLICY_VERSION]
  s[L_PACED_MS] = beat_spacing_ms > 0 and paced_ms or 0
  local closed = {}
  local superseded_id = ''
  local is_unflushed = s[L_DIRTY_SINCE_MS] ~= 0
  if meant ~= RUNNING then
    local known_beat_ms = s[L_LAST_BEAT_MS]
    superseded_id = close(s, closed, CLOSING_SUPERSEDED, at_ms)
    is_unflushed = is_unflushed and #closed == 0
    local issued_ms = meant == LOST and math.min(b[B_PROOF_MS], at_ms) or at_ms
    open(s, b, b[B_SESSION_ID] ~= '' and b[B_SESSION_ID] or b[B_NEW_SESSION_ID], issued_ms)
    -- What is already counted up to the last known beat is not counted again.
    s[L_LAST_BEAT_MS] = math.max(issued_ms, math.min(known_beat_ms, at_ms))
  end

  local until_ms = meant == NEW and s[L_LAST_BEAT_MS] or counts_until(s, b, at_ms)
  local earned_ms = unsynced(s[L_LAST_BEAT_MS], until_ms, b[B_SYNCED])
  credit_by_day(s, b, closed, until_ms, is_unflushed, at_ms)

  s[L_WATCHED_MS] = watched_after(s, b, earned_ms)
  local clock_fell = s[L_LAST_BEAT_MS] - at_ms > max_gap_ms
  s[L_LAST_BEAT_MS] = clock_fell and at_ms or math.max(s[L_LAST_BEAT_MS], at_ms)
  if changes_title then
    close(s, closed, CLOSING_TITLE, at_ms)
    open(s, b, b[B_NEW_SESSION_ID], at_ms)
  end
  if is_end then
    set_aside(s, closed, 1) -- no later beat could restore it: it is flushed next
    s[L_HAS_ENDED] = 1
  else
    s[L_IS_EDUCATIONAL] = b[B_IS_EDUCATIONAL]
    if b[B_IS_PAUSED] == 0 then
      s[L_PAUSED_SINCE_MS] = 0
    elseif s[L_PAUSED_SINCE_MS] == 0 then
      s[L_PAUSED_SINCE_MS] = at_ms
    end
  end
  local counted_ms = s[L_USED_MS] - (s[L_DAY_NUMBER] == day_before and used_before_ms or 0)
  return outcome(s, STATUS_OK, at_ms, 0, counted_ms, superseded_id), closed
end

local call = cmsgpack.unpack(ARGV[1])
max_gap_ms, pause_grace_ms, long_absence_ms, beat_spacing_ms, beat_burst, longest_unknown_ms = unpack(call[2])
local beats, places, generations = call[3], call[4], call[5]
local mark = redis.call('HMGET', KEYS[#KEYS], 'watermark', 'generation')
if tonumber(mark[1] or 0) < call[6] or tonumber(mark[2] or 0) > call[7] then return false end
local at_ms = instant(call[1])

local raws = redis.call('MGET', unpack(KEYS, 1, #beats))
local live_of, changed, outcomes = {}, {}, {}
for i = 1, #beats do
  local key = KEYS[i]
  local s = live_of[key] -- a child's second beat in this call goes on from its first
  if not s and raws[i] then
    s = cmsgpack.unpack(raws[i])
    live_of[key] = s
  end
  if not s then
    outcomes[i] = {STATUS_COLD, at_ms}
  else
    local result, closed = record(s, beats[i], at_ms, generations[i])
    outcomes[i] = result
    if closed then
      local profile_id = string.sub(key, -36)
      if s[L_DIRTY_SINCE_MS] == 0 then
        s[L_DIRTY_SINCE_MS] = at_ms
        redis.call('ZADD', KEYS[places[i]], at_ms, profile_id)
      end
      for j = 1, #closed do
        local t = closed[j]
        local field = profile_id .. '|' .. t[L_SESSION_ID] .. '|' .. t[L_DAY_NUMBER]
        redis.call('HSET', KEYS[places[i] + 1], field, cmsgpack.pack(t))
      end
      changed[#changed + 1] = key
      changed[#changed + 1] = cmsgpack.pack(s)
    end
  end
end
if #changed > 0 then redis.call('MSET', unpack(changed)) end
return cmsgpack.pack(outcomes)
