-- Reads sizes, limits and running totals of queues.
-- KEYS   the queues
-- ARGV   none
-- Returns per queue: ready, scheduled, held, limited, leased, dead, set aside, score of the next ready message (nil: none), limits,
--        counters
-- uses: base
local function next_score(q)
  local id, score = unpack(call('ZRANGE', q.ready, 0, 0, 'WITHSCORES'))
  local record = id and call('HEXISTS', q.ranks, id) == 1 and call('HGET', q.messages, id)
  return record and #record >= 8 and struct.unpack('>d', record) or tonumber(score) or false
end

local reply = {}
for _, prefix in ipairs(KEYS) do
  local q = keys_of(prefix) -- also of a queue that a newer version has changed
  for _, state in ipairs({ STATE_READY, STATE_SCHEDULED, STATE_HELD, STATE_LIMITED, STATE_LEASED, STATE_DEAD, STATE_SET_ASIDE }) do
    reply[#reply + 1] = call('ZCARD', q[state])
  end
  reply[#reply + 1] = next_score(q)
  reply[#reply + 1] = call('HGETALL', q.limits)
  reply[#reply + 1] = call('HGETALL', q.counters)
end
return reply
