-- Count one request against several quotas, all of them or none: the generic cell rate algorithm.
--
-- KEYS[i]       quota i: the instant (ms) at which it will be whole again, absent when it is: a string
-- ARGV[2i - 1]  requests that quota i admits within its window
-- ARGV[2i]      window of quota i (ms)
-- returns       {ms to wait, 0 when admitted; then for each quota: requests left, ms until it is whole again}
--
-- All keys carry the hash tag of one account. Each request moves the instant by window / requests; it may not lie
-- further ahead than the window. A refused request moves nothing, so repeated requests do not prolong the refusal.
-- An instant that lies further ahead than the window means that the clock fell: the quota is whole.
-- A tolerance of 0.01 ms absorbs the rounding of floating point.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + time[2] / 1000

local whole_at, moved_to, wait_ms = {}, {}, 0
for i = 1, #KEYS do
  local window_ms = tonumber(ARGV[2 * i])
  whole_at[i] = math.max(now_ms, tonumber(redis.call('GET', KEYS[i]) or 0))
  if whole_at[i] - now_ms > window_ms + 1 then whole_at[i] = now_ms end
  moved_to[i] = whole_at[i] + window_ms / ARGV[2 * i - 1]
  wait_ms = math.max(wait_ms, math.ceil(moved_to[i] - window_ms - now_ms - 0.01))
end

local answer = {wait_ms}
for i = 1, #KEYS do
  if wait_ms == 0 then
    whole_at[i] = moved_to[i]
    redis.call('SET', KEYS[i], string.format('%.3f', moved_to[i]), 'PX', math.ceil(moved_to[i] - now_ms))
  end
  local window_ms, ahead_ms = tonumber(ARGV[2 * i]), whole_at[i] - now_ms
  answer[2 * i] = math.max(0, math.floor((window_ms - ahead_ms) * ARGV[2 * i - 1] / window_ms + 0.001))
  answer[2 * i + 1] = math.ceil(ahead_ms - 0.01)
end
return answer
