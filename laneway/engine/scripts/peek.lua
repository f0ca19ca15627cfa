-- Reads one page of the messages in a state, in their order.
-- KEYS   1: the queue
-- ARGV   1: state (replies.MessageState)  2: offset  3: how many, at most BATCH  4: '1' to leave out the bodies
-- Returns per message: id, record, deliveries, at (due, end of the lease or when it was buried, ms), dead_info (2 bytes
--        deliveries, length byte, reason, error) of a dead letter. What does not apply is nil.
-- uses: base deliveries record places
local q = names(KEYS[1])
local state, offset, limit = ARGV[1], tonumber(ARGV[2]), math.min(tonumber(ARGV[3]), BATCH)
local page, reply = call('ZRANGE', q[state], offset, offset + limit - 1, 'WITHSCORES'), {}

local function stored(id)
  local record = call('HGET', q.messages, id) or ''
  local m = ARGV[4] == '1' and is_record(record) and parse(id, record, RECORD)
  return m and without_body(record, m.name_at) or record
end

for index = 1, #page, 2 do
  local id, at = page[index], tonumber(page[index + 1])
  local untimed = state == STATE_HELD or state == STATE_LIMITED
  if untimed then id = id_of_member(id) end
  if untimed or state == STATE_READY then at = false end
  local value = call('HGET', q.deliveries, id)
  reply[#reply + 1] = id
  reply[#reply + 1] = stored(id)
  reply[#reply + 1] = value and unpack_delivery(value) or 0
  reply[#reply + 1] = at
  reply[#reply + 1] = state == STATE_DEAD and call('HGET', q.dead_info, id)
end
return reply
