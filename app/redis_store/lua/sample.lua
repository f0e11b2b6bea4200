-- Read counters as they are stored, for the check of accuracy.
--
-- KEYS[1]      dirty marks of the bucket: names the slot, also where there is no child
-- KEYS[1 + i]  counters of child i
-- ARGV[1]      instant (ms); 0 takes this server's clock
-- returns      {instant (ms), {counters of child i, nil where there are none}}

local found = {}
for i = 2, #KEYS do
  found[i - 1] = redis.call('GET', KEYS[i])
end
return {instant(ARGV[1]), found}
