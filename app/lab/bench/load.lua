-- The load that wrk sends: heartbeats of all viewers in turn, from the files that app/lab/bench/viewers.py prepares.
--
-- Arguments: requests file, states file, number of threads, first viewer, number of viewers, mode, requests a second (0:
-- as many as are answered), the layout of a slot in the order of its fields, a gateway's token. Modes:
--   once   every viewer's request as it stands, each exactly once
--   mix    round after round: 1 % of the requests end a session and 1 % open the next one, 5 % are paused
--   batch  the mix without ends and openings, BATCH beats in one request
--
-- A viewer whose session was ended and opened again goes on under an id that only the answer tells; reading answers
-- would cost the load more than it may take. So the state file says that an id is awaited, the bench looks it up in the
-- counters and puts it into the slot. A viewer waits SETTLED_S between beats, end and opening, so that none of them can
-- overtake another on the way.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long s; long ns; } hourglass_time;
  int clock_gettime(int clock, hourglass_time *time);
  int open(const char *path, int flags);
  void *mmap(void *address, size_t length, int protection, int flags, int file, long offset);
  int getpid(void);
  int kill(int process, int signal);
]]

local READ, WRITE, READ_WRITE, SHARED, MONOTONIC, SIGINT = 1, 2, 2, 1, 1, 2
local KNOWN, ENDED, OPENING, LEAVING = 0, 1, 2, 3
local SETTLED_S, SETTLING_S = 0.25, 0.5
local BATCH = 1000
local NULL, TRUE = "null" .. string.rep(" ", 34), "true "

local threads = {}
local time = ffi.new("hourglass_time")
local slots, states, finishers, scratch, sent
local slot, length, token_at, token_length, session_at, paused_at, body_at
local first, beyond, step, index, round
local gateway_token
local finished = "GET /health/live HTTP/1.1\r\nHost: hourglass.example\r\n\r\n"

-- Read by done(), so they are globals of each thread.
ends, openings, finished_s, began_s = 0, 0, 0, 0

function now_s()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.s) + tonumber(time.ns) * 1e-9
end

local function map(path, size)
  local file = ffi.C.open(path, READ_WRITE)
  assert(file >= 0, "cannot open " .. path)
  return ffi.cast("uint8_t *", ffi.C.mmap(nil, size, READ + WRITE, SHARED, file, 0))
end

function setup(thread)
  thread:set("number", #threads)
  threads[#threads + 1] = thread
end

local function text(at, size) return ffi.string(slots + index * slot + at, size) end

-- A timetable for this thread: a request that is late does not move those after it.
local function pace(interval_s)
  local due_s = now_s()
  function delay()
    due_s = due_s + interval_s
    return math.max(0, (due_s - now_s()) * 1000)
  end
end

function init(args)
  local v = {}
  for i = 1, #args do v[i] = tonumber(args[i]) or args[i] end
  step, beyond = v[3], v[4] + v[5]
  first = v[4] + number
  slot, length, token_at, token_length, session_at, paused_at, body_at = v[8], v[9], v[10], v[11], v[12], v[13], v[15]
  gateway_token = args[16]
  slots = map(v[1], beyond * slot)
  states = map(v[2], beyond + step)
  finishers = states + beyond
  finishers[number] = 0
  scratch = ffi.new("uint8_t[?]", slot)
  sent = ffi.new("double[?]", beyond)
  index, round = first, 0
  if v[6] ~= "once" then -- each run begins elsewhere, so that short ones do not always ask for the same viewers
    math.randomseed(os.time() + number)
    index = first + step * math.random(0, math.floor((beyond - first - 1) / step))
  end
  if v[7] > 0 then pace(step / v[7]) end
  local choose = _G[v[6]]
  request = choose
  if number == 0 then -- wrk asks for one request to look at, and does not send it
    request = function()
      request = choose
      return text(0, length)
    end
  end
  began_s = now_s()
end

local function advance()
  index = index + step
  if index >= beyond then
    index, round = first, round + 1
  end
end

local function ending()
  ends = ends + 1
  return "POST /api/v1/viewing-time/session/" .. text(session_at + 1, 36) .. "/end HTTP/1.1\r\n"
    .. "Host: hourglass.example\r\nUser-Agent: HourglassPlayer/1.0\r\nAccept: application/json\r\nAuthorization: Bearer "
    .. text(token_at, token_length) .. "\r\nContent-Length: 0\r\n\r\n"
end

local function changed(at, value)
  ffi.copy(scratch, slots + index * slot, length)
  ffi.copy(scratch + at, value, #value)
  return ffi.string(scratch, length)
end

-- wrk ends at its time or when it is interrupted; the last thread does that, when what it sent has been answered.
local function settle()
  if finished_s == 0 then finished_s = now_s() end
  if now_s() - finished_s > SETTLING_S and finishers[number] == 0 then
    finishers[number] = 1
    local sum = 0
    for thread = 0, step - 1 do sum = sum + finishers[thread] end
    if sum == step then ffi.C.kill(ffi.C.getpid(), SIGINT) end
  end
  return finished
end

function once()
  if index >= beyond then return settle() end
  local viewer = text(0, length)
  index = index + step
  return viewer
end

function mix()
  while true do
    advance()
    local state, now = states[index], now_s()
    local settled = now - sent[index] >= SETTLED_S
    local place = (index - first) / step
    if state == KNOWN and (place + round * 41) % 100 == 0 then
      state = LEAVING
      states[index] = LEAVING
    end
    if state == KNOWN then
      sent[index] = now
      if (place + round * 3) % 20 == 7 then return changed(paused_at, TRUE) end
      return text(0, length)
    elseif state == LEAVING and settled then
      sent[index], states[index] = now, ENDED
      return ending()
    elseif state == ENDED and settled then
      sent[index], states[index] = now, OPENING
      openings = openings + 1
      return changed(session_at, NULL)
    end
  end
end

function batch()
  local beats = {}
  while #beats < BATCH do
    advance()
    if states[index] == KNOWN then beats[#beats + 1] = text(body_at, length - body_at) end
  end
  local body = '{"beats":[' .. table.concat(beats, ",") .. "]}"
  return "POST /api/v1/viewing-time/heartbeats HTTP/1.1\r\nHost: hourglass.example\r\nAuthorization: Bearer "
    .. gateway_token .. "\r\nContent-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n"
    .. body
end

function done(summary, latency)
  local sums = {ends = 0, openings = 0}
  local seconds = 0
  for _, thread in ipairs(threads) do
    for name in pairs(sums) do sums[name] = sums[name] + thread:get(name) end
    seconds = math.max(seconds, thread:get("finished_s") - thread:get("began_s"))
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"ends":%d,"openings":%d,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f,"p999_ms":%.3f,'
      .. '"max_ms":%.3f,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, seconds > 0 and seconds or summary.duration / 1e6, sums.ends, sums.openings,
    latency:percentile(50) / 1000, latency:percentile(90) / 1000, latency:percentile(99) / 1000,
    latency:percentile(99.9) / 1000, latency.max / 1000,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status
  ))
end
