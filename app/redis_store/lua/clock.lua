-- The instant (ms) at which a script acts: the one that is given, or by this server's clock where that is 0.
-- Every script begins with this.
local function instant(given_ms)
  local at_ms = tonumber(given_ms)
  if at_ms ~= 0 then return at_ms end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

