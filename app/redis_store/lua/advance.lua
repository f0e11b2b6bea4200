-- Raise a bucket's watermark, unless this server has come back with an older state or somebody has noticed that it had.
--
-- KEYS[1]  mark of the bucket (hash)
-- ARGV[1]  least watermark that must be found
-- ARGV[2]  generation that must be found
-- ARGV[3]  instant in ms
-- returns  the new watermark, or nothing
--
-- Call it after reading what is to be flushed: a state that holds this watermark then holds all that was read.

local mark = redis.call('HMGET', KEYS[1], 'watermark', 'generation')
local watermark, generation = tonumber(mark[1] or 0), tonumber(mark[2] or 0)
if watermark < tonumber(ARGV[1]) or generation ~= tonumber(ARGV[2]) then return false end
watermark = math.max(watermark + 1, tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'watermark', string.format('%.0f', watermark), 'generation', ARGV[2])
return watermark
