-- Cancels a task. Its waiting messages are deleted. A leased one is marked: renew and ack report that to its holder,
-- and it is deleted when it is given back or its lease expires. One that only a newer version can read is marked, too. A
-- task without such messages can be withdrawn: a put that is under way is then refused.
-- KEYS   1: the queue
-- ARGV   1: the task id  2: refuse puts of this version of the task and of older ones ('' for none)
-- Returns how many messages were deleted, how many are marked, and how many are dead letters, which stay
-- uses: base clock deliveries record attempts places queueing moves
local q = names(KEYS[1])
work_on_full_server(q)
local now = math.floor(clock() / 1000)
local task = ARGV[1]
local ids = messages_of_task(q, task, '')
local removed, marked, dead = 0, 0, 0
local MOST_WITHDRAWN, WITHDRAWN_MS = 10000, 60000
for index = #ids, 1, -1 do
  local id = ids[index]
  if call('ZSCORE', q.dead, id) then dead = dead + 1
  elseif call('ZSCORE', q.leased, id) or is_newer(call('HGET', q.messages, id)) then -- that one cannot be deleted here
    if call('HSET', q.cancelled, id, now) == 1 then write_event(q, EVENT_CANCEL_REQUESTED, task, 'm', id) end
    marked = marked + 1
  else
    local m = load(q, id)
    if m then
      call('ZREM', q.ready, id)
      call('ZREM', q.scheduled, id)
      write_event(q, EVENT_CANCEL, task, 'm', id)
      delete_message(q, m, now)
      removed = removed + 1
    else drop_unreadable(q, { id }, now) end
  end
end
if ARGV[2] ~= '' and removed + marked == 0 then
  call('ZADD', q.withdrawn, 'GT', ARGV[2], task)
  call('ZREMRANGEBYRANK', q.withdrawn, 0, -MOST_WITHDRAWN - 1)
  call('PEXPIRE', q.withdrawn, WITHDRAWN_MS)
end
count(q, 'cancelled', removed)
extend_expiry(q)
return { removed, marked, dead }
