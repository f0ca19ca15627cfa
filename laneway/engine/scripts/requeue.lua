-- Queues dead letters again as new messages: behind all others of their priority, with their deliveries counted from 0.
-- KEYS   1: the queue
-- ARGV   ids
-- Returns one code (replies.LeaseStatus) per id: DUPLICATE when another task holds the uniqueness key now
-- uses: base clock deliveries record attempts places queueing moves flow
local q, limits = names(KEYS[1])
work_on_full_server(q)
local us = clock()
local now = math.floor(us / 1000)
local last_sequence = tonumber(call('HGET', q.counters, 'sequence') or 0)
local sequence = math.max(last_sequence, math.floor((us - EPOCH_US) / TICK_US))
local codes, requeued = {}, 0

local function requeue(id)
  if not call('ZSCORE', q.dead, id) then return STATUS_UNKNOWN end
  local record, m = call('HGET', q.messages, id), load(q, id)
  if is_newer(record) then return STATUS_UNKNOWN end
  if not m then
    drop_unreadable(q, { id }, now)
    return STATUS_UNKNOWN
  end
  if m.unique and m.mode ~= UNIQUE_FOR_TIME then
    local holder = unique_holder(q, m.unique, now)
    if holder and holder ~= m.task then return STATUS_DUPLICATE end
    if not holder then hold_unique(q, m, now) end
  end
  call('ZREM', q.dead, id)
  call('HDEL', q.dead_info, id)
  if m.task ~= id then call('ZREM', q.tasks, task_member(m)) end
  sequence = sequence + 1
  m.score = (9 - m.priority) * SPAN + sequence
  call('HSET', q.messages, id, struct.pack('>d', m.score) .. string.sub(record, RECORD))
  if m.task ~= id then call('ZADD', q.tasks, 0, task_member(m)) end
  give_rank(q, m, limits, sequence)
  write_event(q, EVENT_REQUEUE, m.task, 'm', id)
  hold_or_enqueue(q, m, now, false)
  requeued = requeued + 1
  return STATUS_DONE
end

for index, id in ipairs(ARGV) do codes[index] = requeue(id) end
if requeued > 0 then
  call('HSET', q.counters, 'sequence', string.format('%.0f', sequence))
  count(q, 'requeued', requeued)
  extend_expiry(q)
end
return codes
