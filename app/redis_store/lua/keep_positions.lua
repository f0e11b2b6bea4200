-- Keep what is remembered of children whose players send positions.
--
-- KEYS[i]       position watch of child i: a string (domain.tampering.PositionWatch as a MessagePack array)
-- ARGV[2i - 1]  the string
-- ARGV[2i]      its life (ms)

for i = 1, #KEYS do
  redis.call('SET', KEYS[i], ARGV[2 * i - 1], 'PX', ARGV[2 * i])
end
