-- Sends dead letters round again, as new: at the end of the line, with no deliveries.
-- KEYS   1: the queue
-- ARGV   ids
-- Returns one code (answers.Settled) per id: DUPLICATE when another task holds its uniqueness key now
-- uses: base clock record moves
local q = names(KEYS[1])
local us = clock()
local now = math.floor(us / 1000)
local sequence = math.max(tonumber(call('HGET', q.counters, 'sequence') or 0), math.floor((us - EPOCH) / 10))
local codes, requeued = {}, 0

local function requeue(id)
  if not call('ZSCORE', q.dead, id) then return UNKNOWN end
  local record = call('HGET', q.messages, id)
  local m = parse(id, record, 9)
  if m.unique and m.mode ~= FOR_TIME then
    local by = holder(q, m.unique, now)
    if by and by ~= m.task then return DUPLICATE end
    if not by then hold(q, m, now) end
  end
  call('ZREM', q.dead, id)
  call('HDEL', q.burials, id)
  if m.task ~= id then call('ZREM', q.tasks, task_member(m)) end
  sequence = sequence + 1
  m.score = (9 - m.priority) * SPAN + sequence
  call('HSET', q.messages, id, struct.pack('>d', m.score) .. string.sub(record, 9))
  if m.task ~= id then call('ZADD', q.tasks, 0, task_member(m)) end
  note(q, 'requeue', m.task, 'm', id)
  file(q, m, now, false)
  requeued = requeued + 1
  return DONE
end

for index, id in ipairs(ARGV) do codes[index] = requeue(id) end
if requeued > 0 then
  call('HSET', q.counters, 'sequence', string.format('%.0f', sequence))
  count(q, 'requeued', requeued)
  keep(q)
end
return codes
