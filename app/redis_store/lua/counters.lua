-- Counters as they are stored. The fields from the lease on are left out from where they say nothing, as for most children:
-- that keeps the stored array short. A script finds nil there, then.
local function packed(s)
  local last
  for i = C_COUNT, C_LEASE_MS, -1 do
    local value = s[i]
    if value == 0 or (type(value) == 'table' and #value == 0) then value = nil end
    if value ~= nil then
      last = last or i
    elseif last then
      value = (i == C_UNCOUNTED or i == C_WEEK) and {} or 0
    end
    s[i] = value
  end
  return cmsgpack.pack(s)
end

-- The part of a time range (ms) that no offline sync was credited for.
local function unsynced(from_ms, until_ms, synced)
  local unsynced_ms = math.max(0, until_ms - from_ms)
  for i = 1, #synced do
    local starts_ms, ends_ms = unpack(synced[i])
    unsynced_ms = unsynced_ms - math.max(0, math.min(until_ms, ends_ms) - math.max(from_ms, starts_ms))
  end
  return unsynced_ms
end

-- What of a time range (ms) lies in the time in which the title may be finished; nothing without such time.
local function finishing(s, from_ms, until_ms, synced)
  local finish_until_ms = s[C_FINISH_UNTIL_MS]
  return finish_until_ms and unsynced(from_ms, math.min(until_ms, finish_until_ms), synced)
end

-- Credit exempt educational time, else used time up to the allowance, and the rest as overrun. What is beyond the allowance
-- in the part in which a title may be finished is used as well, and borrowed.
local function credit(s, part_ms, is_exempt, finishing_ms)
  if s[C_IS_EDUCATIONAL] == 1 and is_exempt == 1 then
    s[C_EDUCATIONAL_MS] = s[C_EDUCATIONAL_MS] + part_ms
    s[C_SESSION_EDUCATIONAL_MS] = s[C_SESSION_EDUCATIONAL_MS] + part_ms
    return
  end
  local counted_ms = part_ms
  if s[C_ALLOWANCE_MS] ~= -1 then
    counted_ms = math.min(part_ms, math.max(0, s[C_ALLOWANCE_MS] - s[C_USED_MS]))
    if finishing_ms and finishing_ms > counted_ms then
      s[C_BORROWED_MS] = (s[C_BORROWED_MS] or 0) + finishing_ms - counted_ms
      counted_ms = finishing_ms
    end
  end
  s[C_USED_MS] = s[C_USED_MS] + counted_ms
  s[C_SESSION_USED_MS] = s[C_SESSION_USED_MS] + counted_ms
  if counted_ms < part_ms then
    s[C_OVERRUN_MS] = s[C_OVERRUN_MS] + part_ms - counted_ms
    s[C_SESSION_OVERRUN_MS] = s[C_SESSION_OVERRUN_MS] + part_ms - counted_ms
  end
end

-- The days of a week before one of its days: as the counters have seen them end, then as PostgreSQL has them. The twin of
-- app/domain/weekly.py.
local function earlier_days(s, week, number)
  local first = number - (number + 3 - week[W_STARTS_ON]) % 7 -- 1970-01-01 was a Thursday
  local by_number, days = {}, {}
  for _, source in ipairs({s[C_WEEK] or {}, week[W_DAYS]}) do
    for i = 1, #source do
      local day = source[i]
      if first <= day[E_NUMBER] and day[E_NUMBER] < number then
        local known = by_number[day[E_NUMBER]]
        if not known then
          known = {day[E_NUMBER], day[E_USED_MS], day[E_LIMIT_MS], day[E_OFFLINE_MS]}
          by_number[day[E_NUMBER]] = known
          days[#days + 1] = known
        end
        known[E_USED_MS] = math.max(known[E_USED_MS], day[E_USED_MS])
        known[E_OFFLINE_MS] = math.max(known[E_OFFLINE_MS], day[E_OFFLINE_MS])
      end
    end
  end
  return days
end

-- What earlier days leave of the weekly limit. Extra time does not count.
local function week_left(week, days)
  local left_ms = week[W_LIMIT_MS]
  for i = 1, #days do
    local used_ms, limit_ms = days[i][E_USED_MS] + days[i][E_OFFLINE_MS], days[i][E_LIMIT_MS]
    left_ms = left_ms - (limit_ms == -1 and used_ms or math.min(used_ms, limit_ms))
  end
  return math.max(0, left_ms)
end

-- The allowance of the day of the counters, which may owe something to the day before.
local function less_owed(s, allowance_ms)
  local owed_ms = s[C_OWED_MS]
  if not owed_ms or allowance_ms == -1 then return allowance_ms end
  return math.max(0, allowance_ms - owed_ms)
end

-- Give the counters the terms of their day. A promise to finish a title that was made for more is taken back.
local function put_terms(s, limit_ms, allowance_ms)
  allowance_ms = less_owed(s, allowance_ms)
  if s[C_FINISH_UNTIL_MS] and (s[C_BORROWED_MS] or 0) == 0 and -1 < allowance_ms and allowance_ms < s[C_ALLOWANCE_MS] then
    s[C_FINISH_UNTIL_MS] = 0
  end
  s[C_LIMIT_MS], s[C_ALLOWANCE_MS] = limit_ms, allowance_ms
end

-- Limit and allowance of a day of which the week leaves so much.
local function cut(terms, left_ms)
  local limit_ms, allowance_ms = terms[D_LIMIT_MS], terms[D_ALLOWANCE_MS]
  if limit_ms <= left_ms then return limit_ms, allowance_ms end
  if allowance_ms ~= -1 then allowance_ms = math.max(0, allowance_ms - (limit_ms - left_ms)) end
  return left_ms, allowance_ms
end


-- Extend the unbroken time of a child with breaks by the playback of a time range, apart from what was synced.
local function play(s, breaks, synced, from_ms, until_ms)
  local unbroken_ms, played_until_ms = s[C_UNBROKEN_MS] or 0, s[C_PLAYED_UNTIL_MS] or 0
  for i = 1, #synced + 1 do
    local starts_ms, ends_ms = until_ms, until_ms
    if synced[i] then starts_ms, ends_ms = unpack(synced[i]) end
    local stops_ms = math.min(starts_ms, until_ms)
    if from_ms < stops_ms then
      if from_ms - played_until_ms >= breaks[K_LENGTH_MS] then unbroken_ms = 0 end
      unbroken_ms, played_until_ms = unbroken_ms + stops_ms - from_ms, stops_ms
    end
    from_ms = math.max(from_ms, ends_ms)
  end
  s[C_UNBROKEN_MS], s[C_PLAYED_UNTIL_MS] = unbroken_ms, played_until_ms
end

-- What may be played until a break is due; 0 while it is. The twin of app/domain/breaks.py.
local function left_to_break(s, breaks, at_ms)
  if at_ms - math.min(s[C_PLAYED_UNTIL_MS] or 0, at_ms) >= breaks[K_LENGTH_MS] then return breaks[K_AFTER_MS] end
  return math.max(0, breaks[K_AFTER_MS] - (s[C_UNBROKEN_MS] or 0))
end
