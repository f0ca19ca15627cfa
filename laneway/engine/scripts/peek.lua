-- One page of the messages in a state, in their order.
-- KEYS   1: the queue
-- ARGV   1: state  2: offset  3: how many
-- Returns per message: id, record, deliveries, at (due, lease's end or burial, ms; -1), burial
--        (2 bytes deliveries, length byte + reason, error)
-- uses: base record
local q = names(KEYS[1])
local state, from, most = ARGV[1], tonumber(ARGV[2]), math.min(tonumber(ARGV[3]), BATCH)
local page, answer = call('ZRANGE', q[state], from, from + most - 1, 'WITHSCORES'), {}
for index = 1, #page, 2 do
  local id, at = page[index], tonumber(page[index + 1])
  if state == 'held' then id = string.sub(id, string.byte(id) + 11) end
  if state == 'held' or state == 'ready' then at = -1 end
  local value = call('HGET', q.deliveries, id)
  answer[#answer + 1] = id
  answer[#answer + 1] = call('HGET', q.messages, id) or ''
  answer[#answer + 1] = value and unpack_delivery(value) or 0
  answer[#answer + 1] = at
  answer[#answer + 1] = state == 'dead' and call('HGET', q.burials, id) or ''
end
return answer
