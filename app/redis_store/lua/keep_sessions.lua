-- Keep what adults play: beats and ends of sessions, in order.
--
-- KEYS[i]      running sessions of the adult of beat i: a sorted set of descriptions by the instant (ms) of the last beat
-- ARGV[1]      silence (ms) after which a session has ended
-- ARGV[2]      most sessions of an adult; those silent for longest leave
-- ARGV[3]      instant of the beats; 0 takes this server's clock
-- ARGV[3 + i]  description of the session of beat i, which begins with its id; the id alone ends it
--
-- A session has one description: another title takes the place of the one before. A beat that lies ahead means that the
-- clock fell: what still plays beats again.

local ID_LENGTH = 36

local silence_ms, most, at_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), instant(ARGV[3])
for i = 1, #KEYS do
  local key, description = KEYS[i], ARGV[3 + i]
  local is_end = #description == ID_LENGTH
  if is_end or redis.call('ZADD', key, at_ms, description) == 1 then
    local session_id = string.sub(description, 1, ID_LENGTH)
    for _, known in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      if known ~= description and string.sub(known, 1, ID_LENGTH) == session_id then redis.call('ZREM', key, known) end
    end
    redis.call('ZREMRANGEBYRANK', key, 0, -most - 1)
  end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. at_ms - silence_ms)
  redis.call('ZREMRANGEBYSCORE', key, '(' .. at_ms, '+inf')
  redis.call('PEXPIRE', key, silence_ms)
end
