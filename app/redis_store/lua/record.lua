-- Count a batch of beats, each atomically: the twin of app/domain/reference.py `record`, step by step.
--
-- KEYS[1..n]    counters of n profiles (string, MessagePack array of Counters)
-- KEYS[n+1..]   per bucket in use: its dirty set (zset), then its closed sessions and days (hash)
-- KEYS[#KEYS]   the mark of one of these buckets (hash)
--               On a cluster a call may hold beats of a node's slots. Then KEYS is empty, and the keys follow in ARGV[3..],
--               with the marks of all buckets in use at their end. Where a slot is not wholly there the call fails, before
--               anything is written.
-- ARGV[1]       MessagePack {at_ms, rules, lengths, places, generations, marks, days, rules}
--                 at_ms   the instant to count at; 0 takes this server's clock
--                 rules   array of Rules
--                 lengths per beat, its bytes in ARGV[2]; negative for a beat of ordinary form
--                 places  per beat, the position in KEYS of its bucket's dirty set
--                 generations  per beat, that of its bucket; counters of an older one count as COLD
--                 marks   watermark and generation of each mark, as the caller knows them
--                 days    the arrays of DayTerms that beats of ordinary form name by position
--                 rules   per beat of ordinary form with rules, the bytes behind it in ARGV[2]: an array of what Beat has
--                         from its days on
-- ARGV[2]       the beats, one behind the other, as MessagePack: an array of Beat, or of OrdinaryBeat
-- returns       MessagePack {at_ms, figures, others, unbroken}; nothing when this server knows less than the caller, or has
--               been noticed to have known less: then nothing was counted
--                 figures  per ordinary beat the used time, what it added, and the session's total; per other beat -1
--                 others   arrays of Outcome, of the other beats in their order
--                 unbroken  per ordinary beat of a child with breaks, its unbroken time
--
-- Names in capitals are positions (C_ Counters, B_ Beat, P_ OrdinaryBeat, D_ DayTerms, O_ Outcome, W_ WeekTerms,
-- E_ EarlierDay, K_ BreakTerms, F_ FinishTerms). scripts.py fills them in from the classes, so that the layout is written
-- once. Repeating a call credits only the time since the last beat, so a retry is harmless.

local unpack_limit, pack = cmsgpack.unpack_limit, cmsgpack.pack
local max_gap_ms, pause_grace_ms, long_absence_ms, beat_spacing_ms, beat_burst, longest_unknown_ms, longest_lease_ms

local function copy(s)
  local t = {}
  for i = 1, C_COUNT do t[i] = s[i] end
  return t
end

local function total(s)
  return s[C_SESSION_EARLIER_MS] + s[C_SESSION_USED_MS] + s[C_SESSION_EDUCATIONAL_MS] + s[C_SESSION_OVERRUN_MS]
end

local function outcome(s, status, at_ms, ended_ms, counted_ms, superseded_id)
  local o = {
    status, at_ms, (ended_ms and ended_ms ~= 0) and ended_ms or s[C_LAST_BEAT_MS], s[C_SESSION_ID], total(s),
    s[C_USED_MS], counted_ms or 0, superseded_id or '', s[C_DAY_NUMBER],
  }
  if status ~= STATUS_OK then
    o[O_DAY_STARTS_MS], o[O_DAY_ENDS_MS] = s[C_DAY_STARTS_MS], s[C_DAY_ENDS_MS]
    o[O_POLICY_VERSION], o[O_BY_DEVICE_TYPE] = s[C_POLICY_VERSION], s[C_DEVICE_TYPE]
  elseif s[C_UNBROKEN_MS] or s[C_BORROWED_MS] or s[C_OWED_MS] or s[C_FINISH_UNTIL_MS] then
    o[O_DAY_STARTS_MS], o[O_DAY_ENDS_MS], o[O_POLICY_VERSION], o[O_BY_DEVICE_TYPE], o[O_WEEK_LEFT_MS] = 0, 0, 0, '', 0
    o[O_UNBROKEN_MS], o[O_PLAYED_UNTIL_MS] = s[C_UNBROKEN_MS] or 0, s[C_PLAYED_UNTIL_MS] or 0
    o[O_BORROWED_MS], o[O_OWED_MS] = s[C_BORROWED_MS] or 0, s[C_OWED_MS] or 0
    o[O_FINISH_UNTIL_MS] = s[C_FINISH_UNTIL_MS] or 0
  end
  return o
end

-- Add a copy to the outbox. The counters get a newer version, so that they win over the copy of the same day.
local function enqueue(s, closed, has_ended)
  local t = copy(s)
  t[C_HAS_ENDED] = has_ended
  closed[#closed + 1] = t
  s[C_VERSION] = s[C_VERSION] + 1
end

-- Add a time range to ascending and disjoint ones.
local function with_range(ranges, from_ms, to_ms)
  local before, after = {}, {}
  for i = 1, #ranges do
    local starts_ms, ends_ms = unpack(ranges[i])
    if ends_ms < from_ms then
      before[#before + 1] = ranges[i]
    elseif starts_ms > to_ms then
      after[#after + 1] = ranges[i]
    else
      from_ms, to_ms = math.min(from_ms, starts_ms), math.max(to_ms, ends_ms)
    end
  end
  before[#before + 1] = {from_ms, to_ms}
  for i = 1, #after do before[#before + 1] = after[i] end
  return before
end

local function uncounted_ranges(s)
  local uncounted, ranges = s[C_UNCOUNTED] or {}, {}
  for i = 1, #uncounted, 2 do ranges[#ranges + 1] = {uncounted[i], uncounted[i + 1]} end
  return ranges
end

-- Note an uncounted time range of the session.
local function skip(s, from_ms, to_ms)
  if from_ms >= to_ms then return end
  local ranges = with_range(uncounted_ranges(s), from_ms, to_ms)
  if #ranges > MAX_UNCOUNTED then
    local shortest = 1
    for i = 2, #ranges do
      local length_ms = ranges[i][2] - ranges[i][1]
      if length_ms < ranges[shortest][2] - ranges[shortest][1] then shortest = i end
    end
    table.remove(ranges, shortest)
  end
  local uncounted = {} -- a table of its own: copies share the one before
  for i = 1, #ranges do
    uncounted[2 * i - 1], uncounted[2 * i] = unpack(ranges[i])
  end
  s[C_UNCOUNTED] = uncounted
end

-- Reset the counters for the next day. A running session continues in it. It owes what the day before borrowed.
local function begin_day(s, terms, limit_ms, allowance_ms)
  s[C_SESSION_EARLIER_MS] = total(s)
  s[C_OWED_MS] = terms[D_STARTS_MS] == s[C_DAY_ENDS_MS] and s[C_BORROWED_MS] or nil
  s[C_BORROWED_MS], s[C_FINISH_UNTIL_MS] = nil, nil
  s[C_DAY_NUMBER], s[C_DAY_STARTS_MS], s[C_DAY_ENDS_MS] = terms[D_NUMBER], terms[D_STARTS_MS], terms[D_ENDS_MS]
  s[C_LIMIT_MS], s[C_ALLOWANCE_MS] = limit_ms, less_owed(s, allowance_ms)
  s[C_USED_MS], s[C_EDUCATIONAL_MS], s[C_OVERRUN_MS] = 0, 0, 0
  s[C_ABANDONED_SESSIONS], s[C_UNCOUNTED] = nil, nil
  s[C_SESSION_USED_MS], s[C_SESSION_EDUCATIONAL_MS], s[C_SESSION_OVERRUN_MS] = 0, 0, 0
end

local function is_silent(s, at_ms) return at_ms - s[C_LAST_BEAT_MS] > max_gap_ms end

-- Add the session to the outbox and remember why it ended.
local function close(s, closed, closing, at_ms, was_running, is_charged)
  s[C_PREVIOUS_SESSION_ID] = s[C_SESSION_ID]
  s[C_PREVIOUS_END_REASON] = was_running and closing or END_REASON_ENDED
  s[C_PREVIOUS_ENDED_MS] = was_running and at_ms or s[C_LAST_BEAT_MS]
  if s[C_FINISH_UNTIL_MS] then -- no other session finishes its title
    s[C_FINISH_UNTIL_MS] = math.min(s[C_FINISH_UNTIL_MS], at_ms)
  end
  if s[C_DIRTY_SINCE_MS] ~= 0 or was_running or is_charged then enqueue(s, closed, 1) end
end

local function open(s, b, session_id, at_ms)
  s[C_SESSION_ID] = session_id
  s[C_TITLE_ID], s[C_IS_EDUCATIONAL] = b[B_TITLE_ID], b[B_IS_EDUCATIONAL]
  s[C_DEVICE_ID], s[C_DEVICE_TYPE] = b[B_DEVICE_ID], b[B_DEVICE_TYPE]
  s[C_SESSION_STARTED_MS], s[C_LAST_BEAT_MS] = at_ms, at_ms
  s[C_PAUSED_SINCE_MS], s[C_WATCHED_MS], s[C_HAS_ENDED] = 0, 0, 0
  s[C_UNCOUNTED] = nil
  s[C_SESSION_USED_MS], s[C_SESSION_EDUCATIONAL_MS], s[C_SESSION_OVERRUN_MS] = 0, 0, 0
  s[C_SESSION_EARLIER_MS] = 0
end

local RUNNING, NEW, LOST = 'running', 'new', 'lost'

-- The session match; or nothing, why the beat is refused, and when that session ended.
local function match_session(s, b, at_ms)
  local is_end = b[B_IS_END] == 1
  local claims = b[B_WATCHED_MS] ~= -1
  local is_previous = b[B_SESSION_ID] == s[C_PREVIOUS_SESSION_ID]
  if b[B_SESSION_ID] == '' then
    if b[B_NEW_SESSION_ID] ~= s[C_SESSION_ID] then return NEW end
    -- else a repeat of the call that opened it
  elseif b[B_SESSION_ID] ~= s[C_SESSION_ID] then
    local is_repeated_retitling = is_previous and s[C_PREVIOUS_END_REASON] == END_REASON_TITLE
      and b[B_TITLE_ID] == s[C_TITLE_ID] and b[B_DEVICE_ID] == s[C_DEVICE_ID] and not is_end
    if not is_repeated_retitling then
      local issued_at_ms = b[B_ISSUED_AT_MS]
      if issued_at_ms == 0 then return nil, STATUS_UNKNOWN end
      -- The clock that dated the proof may be ahead of this one, but a session known to be closed was not lost.
      if is_previous or at_ms - issued_at_ms > longest_unknown_ms or issued_at_ms <= s[C_SESSION_STARTED_MS] then
        if is_previous and s[C_PREVIOUS_END_REASON] == END_REASON_ENDED then
          return nil, STATUS_ENDED, s[C_PREVIOUS_ENDED_MS]
        end
        local ended_ms = s[C_PREVIOUS_ENDED_MS]
        return nil, STATUS_SUPERSEDED, ended_ms ~= 0 and ended_ms or s[C_SESSION_STARTED_MS]
      end
      local counted_to_ms = math.max(math.min(issued_at_ms, at_ms), math.min(s[C_LAST_BEAT_MS], at_ms))
      if at_ms - counted_to_ms > max_gap_ms and not claims then return nil, STATUS_ENDED, counted_to_ms end
      return LOST
    end
  end
  if s[C_HAS_ENDED] == 1 or (is_silent(s, at_ms) and not claims) then
    return nil, is_end and STATUS_OK or STATUS_ENDED, s[C_LAST_BEAT_MS]
  end
  return RUNNING
end

-- Whether the given days lead from the running day to the instant. After a long absence they may leave a gap.
local function days_reach(s, days, at_ms)
  local first, last = days[1], days[#days]
  if not first then return false end
  if at_ms < s[C_DAY_ENDS_MS] then return last[D_NUMBER] == s[C_DAY_NUMBER] end
  local follows = first[D_STARTS_MS] <= s[C_DAY_ENDS_MS] or at_ms - s[C_DAY_ENDS_MS] >= long_absence_ms
  return follows and last[D_STARTS_MS] <= at_ms and at_ms < last[D_ENDS_MS]
end

-- Synced time ranges and reserved ones: the policy of the process may not have the latter yet.
local function with_reserved(s, synced)
  local uncounted = s[C_UNCOUNTED]
  if #uncounted == 0 or uncounted[#uncounted] <= s[C_LAST_BEAT_MS] then return synced end
  for i = 1, #uncounted, 2 do
    if uncounted[i + 1] > s[C_LAST_BEAT_MS] then
      synced = with_range(synced, math.max(uncounted[i], s[C_LAST_BEAT_MS]), uncounted[i + 1])
    end
  end
  return synced
end

-- The instant up to which the time since the last beat counts, apart from synced time.
local function counts_until(s, b, synced, at_ms)
  if is_silent(s, at_ms) then
    local reach_ms = s[C_LAST_BEAT_MS] + math.max(0, b[B_WATCHED_MS] - s[C_WATCHED_MS])
    for i = 1, #synced do
      local starts_ms, ends_ms = unpack(synced[i])
      if starts_ms < reach_ms then
        reach_ms = reach_ms + math.max(0, ends_ms - math.max(s[C_LAST_BEAT_MS], starts_ms))
      end
    end
    return math.min(at_ms, reach_ms)
  end
  if s[C_PAUSED_SINCE_MS] ~= 0 then return math.min(at_ms, s[C_PAUSED_SINCE_MS] + pause_grace_ms) end
  return at_ms
end

-- The player's own count of the session after a beat. A claim under another session id does not apply.
local function watched_after(s, b, earned_ms)
  if b[B_WATCHED_MS] ~= -1 and (b[B_SESSION_ID] == '' or b[B_SESSION_ID] == s[C_SESSION_ID]) then
    return math.max(s[C_WATCHED_MS], b[B_WATCHED_MS])
  end
  return s[C_PAUSED_SINCE_MS] ~= 0 and s[C_WATCHED_MS] or s[C_WATCHED_MS] + earned_ms
end

-- Limit and allowance of a day after the earlier days of its week, which are kept. Without a weekly limit none are kept.
local function within_week(s, week, terms)
  if not week then
    s[C_WEEK] = nil
    return terms[D_LIMIT_MS], terms[D_ALLOWANCE_MS]
  end
  s[C_WEEK] = earlier_days(s, week, terms[D_NUMBER])
  return cut(terms, week_left(week, s[C_WEEK]))
end

-- Credit the unsynced part of a time range of the running day. Answers that part in ms.
local function credit_part(s, is_exempt, breaks, synced, from_ms, until_ms)
  local part_ms = unsynced(from_ms, until_ms, synced)
  credit(s, part_ms, is_exempt, finishing(s, from_ms, until_ms, synced))
  if breaks then play(s, breaks, synced, from_ms, until_ms) end
  for i = 1, #synced do
    skip(s, math.max(from_ms, synced[i][1]), math.min(until_ms, synced[i][2]))
  end
  return part_ms
end

-- Credit the time since the last beat up to until_ms, split at every reset before the instant.
local function credit_by_day(s, b, closed, synced, until_ms, is_unflushed, at_ms)
  local days, is_exempt, breaks = b[B_DAYS], b[B_IS_EXEMPT], b[B_BREAKS]
  local cursor_ms = s[C_LAST_BEAT_MS]
  if s[C_PAUSED_SINCE_MS] ~= 0 and not is_silent(s, at_ms) then
    breaks = nil -- a pause, though its grace counts; a claim is playback
  end
  if at_ms < s[C_DAY_ENDS_MS] then
    local last = days[#days]
    if last[D_NUMBER] == s[C_DAY_NUMBER] then
      put_terms(s, within_week(s, b[B_WEEK], last))
    end
    if #synced == 0 and not breaks and not s[C_FINISH_UNTIL_MS] then
      credit(s, math.max(0, until_ms - cursor_ms), is_exempt)
    else
      credit_part(s, is_exempt, breaks, synced, cursor_ms, until_ms)
    end
    if until_ms < at_ms then skip(s, math.max(cursor_ms, until_ms), at_ms) end
    return
  end
  local part_ms = credit_part(s, is_exempt, breaks, synced, cursor_ms, math.min(until_ms, s[C_DAY_ENDS_MS]))
  is_unflushed = is_unflushed or part_ms > 0
  local counted_ms = 0
  for i = 1, #days do
    local terms = days[i]
    if terms[D_STARTS_MS] > at_ms then break end
    if terms[D_STARTS_MS] >= s[C_DAY_ENDS_MS] then
      cursor_ms = math.max(cursor_ms, math.min(until_ms, s[C_DAY_ENDS_MS]))
      counted_ms = counted_ms + part_ms
      if is_unflushed then
        enqueue(s, closed, s[C_HAS_ENDED])
        -- A store that has this day but not the next continues from this instant.
        local day = closed[#closed]
        day[C_LAST_BEAT_MS] = cursor_ms
        if s[C_PAUSED_SINCE_MS] == 0 then day[C_WATCHED_MS] = day[C_WATCHED_MS] + counted_ms end
      end
      if b[B_WEEK] then
        local week = {unpack(s[C_WEEK] or {})} -- the copy in the outbox keeps its own
        -- What it owes was watched the day before, and is used of this one.
        week[#week + 1] = {s[C_DAY_NUMBER], s[C_USED_MS] + (s[C_OWED_MS] or 0), s[C_LIMIT_MS], 0}
        s[C_WEEK] = week
      end
      begin_day(s, terms, within_week(s, b[B_WEEK], terms))
      cursor_ms = math.max(cursor_ms, terms[D_STARTS_MS])
      part_ms = credit_part(s, is_exempt, breaks, synced, cursor_ms, math.min(until_ms, terms[D_ENDS_MS]))
      is_unflushed = part_ms > 0 or (s[C_OWED_MS] or 0) > 0
    end
  end
  skip(s, math.max(cursor_ms, until_ms), at_ms)
end

-- Credit a session that another one ends, as its own beat at that instant would.
local function settle(s, b, closed, synced, until_ms, at_ms)
  local earned_ms = unsynced(s[C_LAST_BEAT_MS], until_ms, synced)
  credit_by_day(s, b, closed, synced, until_ms, s[C_DIRTY_SINCE_MS] ~= 0, at_ms)
  if s[C_PAUSED_SINCE_MS] == 0 then s[C_WATCHED_MS] = s[C_WATCHED_MS] + earned_ms end
  s[C_LAST_BEAT_MS] = math.max(s[C_LAST_BEAT_MS], at_ms)
end

-- Settle and close the session for another one. Answers its id if it was still running.
local function take_over(s, b, closed, synced, at_ms)
  if s[C_SESSION_ID] == '' then return '' end
  local was_running = s[C_HAS_ENDED] == 0 and not is_silent(s, at_ms)
  local is_charged = false
  if was_running then
    settle(s, b, closed, synced, counts_until(s, b, synced, at_ms), at_ms)
  elseif (s[C_LEASE_MS] or 0) > 0 and s[C_HAS_ENDED] == 0 and s[C_LAST_BEAT_MS] == s[C_SESSION_STARTED_MS] then
    s[C_ABANDONED_SESSIONS] = (s[C_ABANDONED_SESSIONS] or 0) + 1
    is_charged = s[C_ABANDONED_SESSIONS] > FREE_ABANDONED_SESSIONS
    if is_charged then
      local until_ms = math.min(at_ms, s[C_LAST_BEAT_MS] + s[C_LEASE_MS])
      settle(s, b, closed, synced, until_ms, until_ms)
    end
  end
  close(s, closed, END_REASON_SUPERSEDED, at_ms, was_running, is_charged)
  return was_running and s[C_SESSION_ID] or ''
end

-- An instant after another one, or the earlier one at which playback closes between them, or is closed.
local function open_until(closed, at_ms, until_ms)
  for i = 1, #closed do
    if at_ms < closed[i][2] then return math.min(until_ms, math.max(at_ms, closed[i][1])) end
  end
  return until_ms
end

-- How long a player may continue without a further answer.
local function lease(s, b, at_ms)
  local lease_ms = open_until(b[B_CLOSED] or {}, at_ms, at_ms + longest_lease_ms) - at_ms
  if b[B_BREAKS] then lease_ms = math.min(lease_ms, left_to_break(s, b[B_BREAKS], at_ms)) end
  if s[C_ALLOWANCE_MS] == -1 or (s[C_IS_EDUCATIONAL] == 1 and b[B_IS_EXEMPT] == 1) then return lease_ms end
  return math.min(lease_ms, math.max(0, s[C_ALLOWANCE_MS] - s[C_USED_MS], (s[C_FINISH_UNTIL_MS] or 0) - at_ms))
end

-- Promise that the title may be finished, or take that back. From the limit on its end stays, unless the session ends.
local function promise_finish(s, b, at_ms)
  local finish, left_ms, known_ms = b[B_FINISH], s[C_ALLOWANCE_MS] - s[C_USED_MS], s[C_FINISH_UNTIL_MS]
  if (s[C_BORROWED_MS] or 0) > 0 or (left_ms == 0 and known_ms and known_ms > at_ms) then
    if b[B_IS_END] == 1 and known_ms then s[C_FINISH_UNTIL_MS] = math.min(known_ms, at_ms) end
    return
  end
  s[C_FINISH_UNTIL_MS] = nil
  if not finish or b[B_IS_END] == 1 or (b[B_IS_EDUCATIONAL] == 1 and b[B_IS_EXEMPT] == 1) or left_ms <= 0
    or finish[F_TITLE_LEFT_MS] <= left_ms or finish[F_TITLE_LEFT_MS] > left_ms + finish[F_LONGEST_MS] then return end
  local title_ends_ms = math.min(at_ms + finish[F_TITLE_LEFT_MS], s[C_DAY_ENDS_MS])
  local until_ms = open_until(b[B_CLOSED] or {}, at_ms, title_ends_ms)
  if until_ms > at_ms + left_ms then s[C_FINISH_UNTIL_MS] = until_ms end
end

-- The theoretical arrival time of the beat after this one (generic cell rate algorithm).
local function next_tat(gcra_tat_ms, at_ms)
  local tat_ms = math.max(gcra_tat_ms, at_ms)
  if tat_ms - at_ms > beat_spacing_ms * beat_burst then tat_ms = at_ms end -- the clock fell
  return tat_ms + beat_spacing_ms
end

-- Whether nothing is known of the child but its day.
local function is_blank(s)
  local counted_ms = s[C_USED_MS] + s[C_EDUCATIONAL_MS] + s[C_OVERRUN_MS]
  return s[C_SESSION_ID] == '' and counted_ms == 0 and (s[C_OWED_MS] or 0) == 0
end

-- Answers the outcome, and the copies for the outbox if the counters changed.
local function record(s, b, at_ms, generation)
  if s[C_GENERATION] < generation then return outcome(s, STATUS_COLD, at_ms) end
  if s[C_POLICY_VERSION] > b[B_POLICY_VERSION] then return outcome(s, STATUS_STALE, at_ms) end
  local gcra_tat_ms = next_tat(s[C_GCRA_TAT_MS], at_ms)
  if gcra_tat_ms - at_ms > beat_spacing_ms * beat_burst then return outcome(s, STATUS_TOO_FAST, at_ms) end
  local match, refusal, ended_ms = match_session(s, b, at_ms)
  if not match then return outcome(s, refusal, at_ms, ended_ms) end
  if not days_reach(s, b[B_DAYS], at_ms) then return outcome(s, STATUS_DAY, at_ms) end
  local is_end = b[B_IS_END] == 1
  local changes_title = match == RUNNING and not is_end and b[B_TITLE_ID] ~= s[C_TITLE_ID]
  if changes_title and b[B_NEW_SESSION_ID] == '' then return outcome(s, STATUS_NEEDS_ID, at_ms) end

  local day_before, used_before_ms = s[C_DAY_NUMBER], s[C_USED_MS]
  s[C_VERSION] = math.max(s[C_VERSION] + 1, at_ms)
  s[C_POLICY_VERSION] = b[B_POLICY_VERSION]
  s[C_GCRA_TAT_MS] = beat_spacing_ms > 0 and gcra_tat_ms or 0
  local closed = {}
  local superseded_id = ''
  local is_unflushed = s[C_DIRTY_SINCE_MS] ~= 0 and not is_blank(s)
  local synced = b[B_SYNCED]
  if s[C_UNCOUNTED] then synced = with_reserved(s, synced) end
  if s[C_PLAYED_UNTIL_MS] then
    if not b[B_BREAKS] then s[C_UNBROKEN_MS], s[C_PLAYED_UNTIL_MS] = 0, 0 end
    s[C_PLAYED_UNTIL_MS] = math.min(s[C_PLAYED_UNTIL_MS], at_ms) -- the clock may have fallen
  end
  if match ~= RUNNING then
    local issued_ms = match == LOST and math.min(b[B_ISSUED_AT_MS], at_ms) or at_ms
    -- What is already counted up to the last known beat is not counted again.
    local from_ms = math.max(issued_ms, math.min(s[C_LAST_BEAT_MS], at_ms))
    superseded_id = take_over(s, b, closed, synced, from_ms)
    is_unflushed = is_unflushed and #closed == 0
    open(s, b, b[B_SESSION_ID] ~= '' and b[B_SESSION_ID] or b[B_NEW_SESSION_ID], issued_ms)
    s[C_LAST_BEAT_MS] = from_ms
    skip(s, issued_ms, from_ms)
  end

  local until_ms = match == NEW and s[C_LAST_BEAT_MS] or counts_until(s, b, synced, at_ms)
  local earned_ms = unsynced(s[C_LAST_BEAT_MS], until_ms, synced)
  credit_by_day(s, b, closed, synced, until_ms, is_unflushed, at_ms)

  s[C_WATCHED_MS] = watched_after(s, b, earned_ms)
  local clock_fell = s[C_LAST_BEAT_MS] - at_ms > max_gap_ms
  if clock_fell then
    s[C_UNCOUNTED] = nil -- the same instants come again, and may be counted then
    if s[C_FINISH_UNTIL_MS] then s[C_FINISH_UNTIL_MS] = math.min(s[C_FINISH_UNTIL_MS], at_ms) end
  end
  s[C_LAST_BEAT_MS] = clock_fell and at_ms or math.max(s[C_LAST_BEAT_MS], at_ms)
  if changes_title then
    close(s, closed, END_REASON_TITLE, at_ms, true, false)
    open(s, b, b[B_NEW_SESSION_ID], at_ms)
  end
  if b[B_FINISH] or s[C_FINISH_UNTIL_MS] then promise_finish(s, b, at_ms) end
  if match == NEW or changes_title then
    s[C_LEASE_MS] = lease(s, b, at_ms)
  elseif s[C_LEASE_MS] then
    s[C_LEASE_MS] = nil
  end
  if is_end then
    enqueue(s, closed, 1) -- no later beat could restore it: it is flushed next
    s[C_HAS_ENDED] = 1
  else
    s[C_IS_EDUCATIONAL] = b[B_IS_EDUCATIONAL]
    if b[B_IS_PAUSED] == 0 then
      s[C_PAUSED_SINCE_MS] = 0
    elseif s[C_PAUSED_SINCE_MS] == 0 then
      s[C_PAUSED_SINCE_MS] = at_ms
    end
  end
  local counted_ms = s[C_USED_MS] - (s[C_DAY_NUMBER] == day_before and used_before_ms or 0)
  local told = outcome(s, STATUS_OK, at_ms, 0, counted_ms, superseded_id)
  if b[B_WEEK] then
    told[O_DAY_STARTS_MS], told[O_DAY_ENDS_MS], told[O_POLICY_VERSION], told[O_BY_DEVICE_TYPE] = 0, 0, 0, ''
    told[O_WEEK_LEFT_MS] = week_left(b[B_WEEK], s[C_WEEK] or {})
  end
  return told, closed
end

-- An ordinary beat: the running session plays the same title on, on the same day, and was heard of within the gap.
--
-- Such a beat counts as `record` counts it, but only some elements of the stored array change, so that the array is read and
-- written in runs, without tables. Its second run is what an OrdinaryBeat ends with, byte by byte: session, title and
-- device. A child with a weekly limit or breaks has more behind: what `kept` is, then what it has played without a break.
-- Answers the used time, what the beat added, the session's total, the counters as stored, whether they were clean, and the
-- unbroken time of a child with breaks; nothing if the beat is not ordinary after all.
local HEADER_BYTES = 3 -- of an array of more than 15 elements
local ORDINARY_COUNT = C_GCRA_TAT_MS -- no lease is open, no session abandoned, nothing uncounted or reserved
local TIMES = C_GCRA_TAT_MS - C_DEVICE_TYPE

local function has_run(raw, run, at) return string.find(raw, run, at + 1, true) == at + 1 end

local function record_ordinary(raw, playing, policy_version, is_free, claim_ms, terms, at_ms, generation, kept, break_ms,
    finish_ms, title_left_ms)
  local count = kept == '' and ORDINARY_COUNT or break_ms == 0 and C_WEEK or C_PLAYED_UNTIL_MS
  if string.byte(raw, HEADER_BYTES) ~= count then return end
  local playing_at, version, known_generation, known_policy_version, dirty_since_ms, day_number, day_starts_ms, day_ends_ms,
    _, _, used_ms, educational_ms, overrun_ms = unpack_limit(raw, C_OVERRUN_MS, HEADER_BYTES)
  if known_generation < generation or known_policy_version > policy_version or at_ms >= day_ends_ms
    or not terms or terms[D_NUMBER] ~= day_number or not has_run(raw, playing, playing_at) then return end
  local kept_at, started_ms, last_beat_ms, paused_since_ms, watched_ms, session_used_ms, session_educational_ms,
    session_overrun_ms, earlier_ms, has_ended, previous_id, previous_end_reason, previous_ended_ms, gcra_tat_ms =
    unpack_limit(raw, TIMES, playing_at + #playing)
  local earned_ms = at_ms - last_beat_ms
  if earned_ms < 0 or earned_ms > max_gap_ms or paused_since_ms ~= 0 or has_ended ~= 0 then return end
  gcra_tat_ms = next_tat(gcra_tat_ms, at_ms)
  if gcra_tat_ms - at_ms > beat_spacing_ms * beat_burst then return end
  local behind, unbroken_ms = kept, nil
  if kept ~= '' then
    if not has_run(raw, kept, kept_at) then return end
    if break_ms > 0 then
      local _, known_ms, played_until_ms = unpack_limit(raw, 2, kept_at + #kept)
      unbroken_ms = (last_beat_ms - played_until_ms >= break_ms and 0 or known_ms) + earned_ms
      if earned_ms == 0 or played_until_ms > at_ms then return end
      behind = kept .. pack(unbroken_ms, at_ms)
    end
  end

  local allowance_ms, counted_ms = terms[D_ALLOWANCE_MS], earned_ms
  if is_free == 1 then
    counted_ms = 0
    educational_ms, session_educational_ms = educational_ms + earned_ms, session_educational_ms + earned_ms
  else
    if allowance_ms ~= -1 then counted_ms = math.min(earned_ms, math.max(0, allowance_ms - used_ms)) end
    local over_ms = earned_ms - counted_ms
    used_ms, session_used_ms = used_ms + counted_ms, session_used_ms + counted_ms
    overrun_ms, session_overrun_ms = overrun_ms + over_ms, session_overrun_ms + over_ms
    local left_ms = allowance_ms - used_ms
    if left_ms > 0 and left_ms < title_left_ms and title_left_ms <= left_ms + finish_ms then return end -- may be promised
  end
  watched_ms = claim_ms == -1 and watched_ms + earned_ms or math.max(watched_ms, claim_ms)
  local stored = string.sub(raw, 1, HEADER_BYTES)
    .. pack(math.max(version + 1, at_ms), known_generation, policy_version, dirty_since_ms == 0 and at_ms or dirty_since_ms,
      day_number, day_starts_ms, day_ends_ms, terms[D_LIMIT_MS], allowance_ms, used_ms, educational_ms, overrun_ms)
    .. playing
    .. pack(started_ms, at_ms, 0, watched_ms, session_used_ms, session_educational_ms, session_overrun_ms, earlier_ms, 0,
      previous_id, previous_end_reason, previous_ended_ms, beat_spacing_ms > 0 and gcra_tat_ms or 0)
    .. behind
  local total_ms = earlier_ms + session_used_ms + session_educational_ms + session_overrun_ms
  return used_ms, counted_ms, total_ms, stored, dirty_since_ms == 0, unbroken_ms
end

local call = cmsgpack.unpack(ARGV[1])
max_gap_ms, pause_grace_ms, long_absence_ms, beat_spacing_ms, beat_burst, longest_unknown_ms, longest_lease_ms =
  unpack(call[2])
local lengths, places, generations, marks, days, rules = call[3], call[4], call[5], call[6], call[7], call[8]
local is_of_node = #KEYS == 0
local keys = is_of_node and {unpack(ARGV, 3)} or KEYS
local marks_at = #keys - #marks / 2
for i = 1, #marks, 2 do
  local mark = redis.call('HMGET', keys[marks_at + (i + 1) / 2], 'watermark', 'generation')
  if tonumber(mark[1] or 0) < marks[i] or tonumber(mark[2] or 0) > marks[i + 1] then return false end
end
local at_ms = instant(call[1])

local raws = {}
if is_of_node then -- each command stays in a slot, and all that will be written is looked for
  for i = 1, #lengths do raws[i] = redis.call('GET', keys[i]) end
  for place = #lengths + 1, marks_at, 2 do redis.call('EXISTS', keys[place], keys[place + 1]) end
else
  raws = redis.call('MGET', unpack(keys, 1, #lengths))
end
local live_of, stored_of = {}, {} -- a child's second beat in this call continues from its first
local changed, figures, others, unbroken = {}, {}, {}, {}

local function change(i, key, was_clean, stored)
  if was_clean then redis.call('ZADD', keys[places[i]], at_ms, string.sub(key, -36)) end
  changed[#changed + 1] = key
  changed[#changed + 1] = stored
end

-- Count any beat. Answers its outcome.
local function count(i, key, s, beat)
  local result, closed = record(s, beat, at_ms, generations[i])
  if not closed then return result end
  local was_clean = s[C_DIRTY_SINCE_MS] == 0
  if was_clean then s[C_DIRTY_SINCE_MS] = at_ms end
  for j = 1, #closed do
    local t = closed[j]
    local field = string.sub(key, -36) .. '|' .. t[C_SESSION_ID] .. '|' .. t[C_DAY_NUMBER]
    redis.call('HSET', keys[places[i] + 1], field, packed(t))
  end
  change(i, key, was_clean, packed(s))
  return result
end

-- Count a beat of ordinary form; or answer it as an array of Beat.
local function count_ordinary(i, key, raw, starts_at, ends_at)
  local playing_at, policy_version, is_exempt, is_free, claim_ms, day = unpack_limit(ARGV[2], P_DAYS, starts_at + 1)
  local break_ms, finish_ms, title_left_ms, kept = 0, 0, -1, ''
  if rules[i] then
    playing_at, break_ms, finish_ms, title_left_ms, kept = unpack_limit(ARGV[2], P_KEPT - P_DAYS, playing_at)
  end
  if not live_of[key] then
    local playing = string.sub(ARGV[2], playing_at + 1, ends_at)
    local terms = days[day][#days[day]]
    local used_ms, counted_ms, total_ms, stored, was_clean, unbroken_ms = record_ordinary(raw, playing, policy_version,
      is_free, claim_ms, terms, at_ms, generations[i], kept, break_ms, finish_ms, title_left_ms)
    if stored then
      stored_of[key] = stored
      change(i, key, was_clean, stored)
      figures[3 * i - 2], figures[3 * i - 1], figures[3 * i] = used_ms, counted_ms, total_ms
      unbroken[#unbroken + 1] = unbroken_ms
      return nil
    end
  end
  local _, session_id, title_id, is_educational, device_id, device_type =
    unpack_limit(ARGV[2], P_COUNT - P_KEPT, playing_at)
  local beat = {
    [B_SESSION_ID] = session_id, [B_NEW_SESSION_ID] = '', [B_ISSUED_AT_MS] = 0, [B_TITLE_ID] = title_id,
    [B_IS_EDUCATIONAL] = is_educational, [B_IS_EXEMPT] = is_exempt, [B_IS_PAUSED] = 0, [B_IS_END] = 0,
    [B_WATCHED_MS] = claim_ms, [B_DEVICE_ID] = device_id, [B_DEVICE_TYPE] = device_type,
    [B_POLICY_VERSION] = policy_version, [B_DAYS] = days[day], [B_SYNCED] = {},
  }
  if rules[i] then
    local long = cmsgpack.unpack(string.sub(ARGV[2], ends_at + 1, ends_at + rules[i]))
    for field = B_DAYS, B_COUNT do beat[field] = long[field - B_DAYS + 1] end
  end
  return beat
end

local ends_at = 0
for i = 1, #lengths do
  local key, starts_at = keys[i], ends_at
  local raw = stored_of[key] or raws[i]
  ends_at = starts_at + math.abs(lengths[i])
  local beat
  if raw and lengths[i] < 0 then
    beat = count_ordinary(i, key, raw, starts_at, ends_at)
  elseif raw then
    beat = cmsgpack.unpack(string.sub(ARGV[2], starts_at + 1, ends_at))
  end
  ends_at = ends_at + (rules[i] or 0)
  if beat or not raw then
    local s = live_of[key] or raw and cmsgpack.unpack(raw)
    live_of[key] = s
    others[#others + 1] = s and count(i, key, s, beat) or {STATUS_COLD, at_ms}
    figures[3 * i - 2], figures[3 * i - 1], figures[3 * i] = -1, -1, -1
  end
end
if is_of_node then
  for i = 1, #changed, 2 do redis.call('SET', changed[i], changed[i + 1]) end
elseif #changed > 0 then
  redis.call('MSET', unpack(changed))
end
return pack({at_ms, figures, others, unbroken})
