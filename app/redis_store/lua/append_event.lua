-- Append an event to the recent events of a child, and wake the streams that wait for it.
--
-- KEYS[1]   recent events (string, MessagePack): {ms, sequence, event, event, ...}; each event is {ms, sequence, kind, facts}.
--           The first two numbers are the id up to which events may be missing.
-- ARGV[1]   kind
-- ARGV[2]   facts, opaque; an event without facts takes the place of an earlier one of its kind that has none either
-- ARGV[3]   life of the key (ms), from the last event on
-- ARGV[4]   most bytes; the oldest events leave first, the new one always stays
-- ARGV[5]   instant (ms); 0 takes this server's clock
-- ARGV[6]   channel to publish on
-- ARGV[7]   message to publish
-- returns   the id of the event, "<ms>-<sequence>"
--
-- Ids only rise while the key lives, even when the clock falls. A key that is absent has had no event for its life.

local HEAD = 2

local life_ms, most_bytes, at_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), instant(ARGV[5])
local raw = redis.call('GET', KEYS[1])
local recent = raw and cmsgpack.unpack(raw) or {math.max(0, at_ms - life_ms), 0}

local last_ms, last_sequence = recent[1], recent[2]
if #recent > HEAD then last_ms, last_sequence = recent[#recent][1], recent[#recent][2] end
local ms, sequence = at_ms, 0
if at_ms <= last_ms then ms, sequence = last_ms, last_sequence + 1 end

if ARGV[2] == '' then
  for i = #recent, HEAD + 1, -1 do
    if recent[i][3] == ARGV[1] and recent[i][4] == '' then table.remove(recent, i) end
  end
end
recent[#recent + 1] = {ms, sequence, ARGV[1], ARGV[2]}

local packed = cmsgpack.pack(recent)
while #packed > most_bytes and #recent > HEAD + 1 do
  local oldest = table.remove(recent, HEAD + 1)
  recent[1], recent[2] = oldest[1], oldest[2]
  packed = cmsgpack.pack(recent)
end
redis.call('SET', KEYS[1], packed, 'PX', life_ms)
redis.call('PUBLISH', ARGV[6], ARGV[7])
return string.format('%.0f-%.0f', ms, sequence)
