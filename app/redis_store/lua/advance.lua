-- Raise the watermarks of some buckets, unless this server has come back with an older state or somebody has noticed that
-- it had.
--
-- KEYS[1..n]  marks of n buckets (hash)
-- ARGV[1]     instant in ms
-- ARGV[2..]   per mark, the least watermark and the generation that must be found
-- returns     the n new watermarks, or nothing where any mark is not as known: then none was raised
--
-- Call it after reading what is to be flushed: a state that holds these watermarks then holds all that was read.

local at_ms = tonumber(ARGV[1])
local raised = {}
for i = 1, #KEYS do
  local known_watermark, known_generation = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local mark = redis.call('HMGET', KEYS[i], 'watermark', 'generation')
  local watermark, generation = tonumber(mark[1] or 0), tonumber(mark[2] or 0)
  if watermark < known_watermark or generation ~= known_generation then return false end
  raised[i] = math.max(watermark + 1, at_ms)
end
for i = 1, #KEYS do
  redis.call('HSET', KEYS[i], 'watermark', string.format('%.0f', raised[i]), 'generation', ARGV[2 * i + 1])
end
return raised
