-- Where a task's newest message is, and why it waits.
-- KEYS   1: the queue
-- ARGV   1: the task id
-- Returns nothing when unknown, else: id, state, record, deliveries, at (due, lease's end or burial, ms; -1),
--        position in ready from 0 (-1), token of its lease, 1 if cancelled, task of the head it is held behind,
--        burial (lib/moves.lua) when dead, attempts begun
-- uses: base record moves
local q = names(KEYS[1])
local id, record, m
for _, each in ipairs(siblings(q, { id = '', task = ARGV[1] })) do
  local candidate = call('HGET', q.messages, each)
  local parsed = parse(each, candidate, 9)
  if not m or parsed.score % SPAN > m.score % SPAN then id, record, m = each, candidate, parsed end
end
if not id then return {} end
local value = call('HGET', q.deliveries, id)
local times, token = 0, ''
if value then
  local _flags, _score
  times, _flags, _score, token = unpack_delivery(value)
end
local begun = attempts_of(q, id)
local marked = call('HEXISTS', q.cancelled, id)
for _, state in ipairs({ 'scheduled', 'leased', 'dead' }) do
  local at = call('ZSCORE', q[state], id)
  local burial = at and state == 'dead' and call('HGET', q.burials, id) or ''
  if at then return { id, state, record, times, tonumber(at), -1, token, marked, '', burial, begun } end
end
local position = call('ZRANK', q.ready, id)
if position then return { id, 'ready', record, times, -1, position, token, marked, '', '', begun } end
local head = load(q, call('HGET', q.heads, m.key) or '')
return { id, 'held', record, times, -1, -1, token, marked, head and head.task or '', '', begun }
