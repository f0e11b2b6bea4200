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
