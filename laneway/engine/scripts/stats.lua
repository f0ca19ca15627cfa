-- Reads sizes, limits and running totals of queues.
-- KEYS   the queues
-- ARGV   none
-- Returns per queue: ready, scheduled, held, leased, dead, set aside, score of the next ready message (nil: none), limits,
--        counters
-- uses: base
local reply = {}
for _, prefix in ipairs(KEYS) do
  local q = keys_of(prefix) -- also of a queue that a newer version has changed
  for _, state in ipairs({ STATE_READY, STATE_SCHEDULED, STATE_HELD, STATE_LEASED, STATE_DEAD, STATE_SET_ASIDE }) do
    reply[#reply + 1] = call('ZCARD', q[state])
  end
  reply[#reply + 1] = tonumber(call('ZRANGE', q.ready, 0, 0, 'WITHSCORES')[2]) or false
  reply[#reply + 1] = call('HGETALL', q.limits)
  reply[#reply + 1] = call('HGETALL', q.counters)
end
return reply
