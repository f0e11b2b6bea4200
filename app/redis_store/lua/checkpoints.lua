-- Read, or put, the marks of buckets.
--
-- KEYS[1..n]  marks of n buckets (hash)
-- ARGV        nothing to read; else 2n numbers, the watermark and the generation of each bucket
-- returns     2n numbers: watermark and generation of each, as they stand now

local answer = {}
for i = 1, #KEYS do
  if #ARGV > 0 then redis.call('HSET', KEYS[i], 'watermark', ARGV[2 * i - 1], 'generation', ARGV[2 * i]) end
  local mark = redis.call('HMGET', KEYS[i], 'watermark', 'generation')
  answer[2 * i - 1], answer[2 * i] = tonumber(mark[1] or 0), tonumber(mark[2] or 0)
end
return answer
