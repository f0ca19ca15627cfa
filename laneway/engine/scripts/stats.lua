-- Sizes, limits and running totals of queues.
-- KEYS   the queues
-- ARGV   none
-- Returns per queue: ready, scheduled, held, leased, dead, score of the next ready one (-1), limits, counters
-- uses: base
local answer = {}
for _, prefix in ipairs(KEYS) do
  local q = names(prefix)
  for _, state in ipairs({ 'ready', 'scheduled', 'held', 'leased', 'dead' }) do
    answer[#answer + 1] = call('ZCARD', q[state])
  end
  answer[#answer + 1] = tonumber(call('ZRANGE', q.ready, 0, 0, 'WITHSCORES')[2]) or -1
  answer[#answer + 1] = call('HGETALL', q.limits)
  answer[#answer + 1] = call('HGETALL', q.counters)
end
return answer
