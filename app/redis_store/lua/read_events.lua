-- Read the recent events of a child.
--
-- KEYS[1]   recent events (string, see append_event.lua)
-- ARGV[1]   instant (ms); 0 takes this server's clock
-- returns   {instant (ms), recent events; left out when there are none}

return {instant(ARGV[1]), redis.call('GET', KEYS[1])}
