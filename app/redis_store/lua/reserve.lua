-- Reserve time ranges for an offline sync, if nothing was counted since the counters were read.
--
-- KEYS[1]  counters of a profile
-- KEYS[2]  the dirty set of its bucket
-- ARGV[1]  version of the counters as read
-- ARGV[2]  MessagePack of the time ranges: n arrays {from_ms, to_ms}, ascending and apart from each other
-- ARGV[3]  instant in ms; 0 takes this server's clock
-- ARGV[4]  generation of the bucket
-- returns  1 reserved, 0 the counters changed, -1 there are none, or only those of an older generation
--
-- What lies after the last beat could still be claimed, by a process that does not know of the sync yet. It is noted as
-- uncounted there. A sync that fails afterwards is repeated by its device. More time ranges than are kept become one.

local at_ms = instant(ARGV[3])
local raw = redis.call('GET', KEYS[1])
if not raw then return -1 end
local s = cmsgpack.unpack(raw)
if s[C_GENERATION] < tonumber(ARGV[4]) then return -1 end
if s[C_VERSION] ~= tonumber(ARGV[1]) then return 0 end

local uncounted = {}
for i, at in ipairs(s[C_UNCOUNTED] or {}) do uncounted[i] = at end
local known = #uncounted
for _, range in ipairs(cmsgpack.unpack(ARGV[2])) do
  local from_ms, to_ms = math.max(range[1], s[C_LAST_BEAT_MS]), range[2]
  if from_ms < to_ms then
    uncounted[#uncounted + 1] = from_ms
    uncounted[#uncounted + 1] = to_ms
  end
end
if #uncounted == known then return 1 end

-- Earlier syncs may have reserved later time ranges than this one.
local ranges = {}
for i = 1, #uncounted, 2 do ranges[#ranges + 1] = {uncounted[i], uncounted[i + 1]} end
table.sort(ranges, function(one, other) return one[1] < other[1] end)
local apart = {}
for _, range in ipairs(ranges) do
  local last = apart[#apart]
  if last and range[1] <= last[2] then
    last[2] = math.max(last[2], range[2])
  else
    apart[#apart + 1] = range
  end
end
while #apart > MAX_UNCOUNTED and apart[#apart - 1][2] > s[C_LAST_BEAT_MS] do
  apart[#apart - 1][2] = apart[#apart][2]
  apart[#apart] = nil
end
while #apart > MAX_UNCOUNTED do table.remove(apart, 1) end

s[C_UNCOUNTED] = {}
for i = 1, #apart do
  s[C_UNCOUNTED][2 * i - 1], s[C_UNCOUNTED][2 * i] = apart[i][1], apart[i][2]
end
s[C_VERSION] = math.max(s[C_VERSION] + 1, at_ms)
if s[C_DIRTY_SINCE_MS] == 0 then
  s[C_DIRTY_SINCE_MS] = at_ms
  redis.call('ZADD', KEYS[2], at_ms, string.sub(KEYS[1], -36))
end
redis.call('SET', KEYS[1], packed(s))
return 1
