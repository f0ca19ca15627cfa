-- Finds the newest message of a task, and what it waits for.
-- KEYS   1: the queue
-- ARGV   1: the task id  2: '1' to leave out the body
-- Returns an empty list when the queue has no message of the task, else: id, record, deliveries, state, at (due, end of
--        the lease or when it was buried, ms), dead_info (lib/moves.lua) of a dead letter, position in ready from 0,
--        token of the lease, 1 if the task was cancelled, task at the head of the key behind which it is held, attempts
--        started, 1 if the last one has finished, how often it was handed on, line in which it waits. What does not apply is nil.
-- uses: base deliveries record attempts hand_ons places queueing flow
local q = names(KEYS[1])
local id, record, m
for _, candidate in ipairs(messages_of_task(q, ARGV[1], '')) do
  local stored = call('HGET', q.messages, candidate)
  local parsed = load(q, candidate)
  if is_newer(stored) then parsed = { score = struct.unpack('>d', stored) } end -- only its id is known to be the task's
  if parsed and (not m or parsed.score % SPAN > m.score % SPAN) then id, record, m = candidate, stored, parsed end
end
if not id then return {} end
if ARGV[2] == '1' and m.name_at then record = without_body(record, m.name_at) end

local position, at, head = call('ZRANK', q.ready, id), false, nil
local state = (not m.name_at or is_held(q, m)) and STATE_HELD or STATE_STRAY -- without its key, it may be held
for _, timed in ipairs({ STATE_SCHEDULED, STATE_LEASED, STATE_DEAD }) do
  local score = call('ZSCORE', q[timed], id)
  if score then state, at = timed, tonumber(score) end
end
if position then state = STATE_READY end
if call('ZSCORE', q.set_aside, id) then state = STATE_SET_ASIDE end
local member = call('HGET', q.limited_in, id)
local line = member and line_of(member)
if line then state, at = STATE_LIMITED, tonumber(call('ZSCORE', q.lines, line) or nil) or false end
if state == STATE_HELD and m.key then head = load(q, call('HGET', q.heads, m.key) or '') end

local value = call('HGET', q.deliveries, id)
local deliveries, _flags, _score, token = 0, nil, nil, ''
if value then deliveries, _flags, _score, token = unpack_delivery(value) end
local dead_info = state == STATE_DEAD and call('HGET', q.dead_info, id)
local cancelled, started = call('HEXISTS', q.cancelled, id), attempts_of(q, id)
local h = has_attempts(q) and read_hand_ons(call('HGET', q.handed_on, id))
return {
  id, record, deliveries, state, at, dead_info, position, token ~= '' and token, cancelled, head and head.task or false,
  started, ack_action_of(q, id) and 1 or 0, h and h.times or 0, line,
}
