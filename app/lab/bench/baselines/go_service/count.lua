-- The least that counting needs: the time since the last heartbeat, added to what was used.
-- KEYS: a hash. ARGV: session, "1" while paused, the longest gap that counts (ms). Returns used_ms and at_ms.
local now = redis.call("TIME")
local at_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local kept = redis.call("HMGET", KEYS[1], "session", "at_ms", "used_ms")
local used_ms = tonumber(kept[3] or 0)
if kept[1] == ARGV[1] and ARGV[2] == "0" then
  used_ms = used_ms + math.min(math.max(0, at_ms - kept[2]), tonumber(ARGV[3]))
end
redis.call("HSET", KEYS[1], "session", ARGV[1], "at_ms", at_ms, "used_ms", used_ms)
return {used_ms, at_ms}
