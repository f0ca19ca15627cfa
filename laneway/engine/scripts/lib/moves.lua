-- How messages move between states: every script that moves one goes through these.

-- held: ordering key, '\0' for a continuation of the head's task or '\1', sequence, id; tasks: task id, '\1', ...
local function lane(key) return string.char(#key) .. key end

local function held_member(m, front)
  return lane(m.key) .. (front and '\0' or '\1') .. struct.pack('>d', m.score % SPAN) .. m.id
end

local function task_lane(task) return string.char(#task) .. task end

local function within(lane_, key, limit)
  return call('ZRANGEBYLEX', key, '[' .. lane_, '(' .. lane_ .. '\2', 'LIMIT', 0, limit)
end

-- ids of the other messages of this task, at most `BATCH`
local function siblings(q, m)
  local found = {}
  if m.task ~= m.id and call('HEXISTS', q.messages, m.task) == 1 then found[1] = m.task end
  if call('EXISTS', q.tasks) == 1 then
    local prefix = task_lane(m.task)
    for _, member in ipairs(within(prefix, q.tasks, BATCH)) do
      local id = string.sub(member, #prefix + 10)
      if id ~= m.id then found[#found + 1] = id end
    end
  end
  return found
end

local function task_member(m)
  return task_lane(m.task) .. '\1' .. struct.pack('>d', m.score % SPAN) .. m.id
end

-- The head of its key, or one without a key, goes to scheduled or ready.
local function place(q, m, due, now)
  if due and due > now then
    call('ZADD', q.scheduled, due, m.id)
    if call('ZRANK', q.scheduled, m.id) == 0 then ring(q) end
  else
    call('ZADD', q.ready, m.score, m.id)
    ring(q)
  end
end

-- A new or requeued message: behind its key's head if there is one, else placed.
local function file(q, m, now, continues)
  if m.key then
    local head = call('HGET', q.heads, m.key)
    if head then
      local front = false
      if continues then
        local other = load(q, head)
        front = other and other.task == m.task
      end
      call('ZADD', q.held, 0, held_member(m, front))
      return
    end
    call('HSET', q.heads, m.key, m.id)
  end
  place(q, m, m.eta, now)
end

-- The message gives up its place at, or behind, its key; the next of the key moves up.
local function leave_key(q, m, now)
  if not m.key then return end
  if call('HGET', q.heads, m.key) ~= m.id then
    call('ZREM', q.held, held_member(m, true), held_member(m, false))
    return
  end
  local prefix = lane(m.key)
  local member = within(prefix, q.held, 1)[1]
  if not member then
    call('HDEL', q.heads, m.key)
    return
  end
  call('ZREM', q.held, member)
  local id = string.sub(member, #prefix + 10)
  call('HSET', q.heads, m.key, id)
  local next_ = load(q, id)
  place(q, next_, next_.eta, now)
end

-- The task that holds a uniqueness key now.
local function holder(q, unique, now)
  local task = call('HGET', q.unique, unique)
  local ends = task and call('ZSCORE', q.unique_until, unique)
  if ends and tonumber(ends) <= now then return false end
  return task
end

local function hold(q, m, now)
  call('HSET', q.unique, m.unique, m.task)
  if m.ttl > 0 then call('ZADD', q.unique_until, now + m.ttl, m.unique)
  else call('ZREM', q.unique_until, m.unique) end
end

-- Uniqueness that was held for longer than its time is dropped, a batch at a time.
local function sweep(q, now)
  local over = call('ZRANGEBYSCORE', q.unique_until, '-inf', now, 'LIMIT', 0, BATCH)
  if #over == 0 then return end
  call('HDEL', q.unique, unpack(over))
  call('ZREM', q.unique_until, unpack(over))
end

local function free(q, m)
  if call('HGET', q.unique, m.unique) ~= m.task then return end
  call('HDEL', q.unique, m.unique)
  call('ZREM', q.unique_until, m.unique)
end

-- The message is done with: its uniqueness ends, unless another live message of its task carries the same key on.
local function free_if_last(q, m)
  if not m.unique or m.mode == FOR_TIME then return end
  for _, id in ipairs(siblings(q, m)) do
    local other = load(q, id)
    if other.unique == m.unique and other.mode ~= FOR_TIME and not call('ZSCORE', q.dead, id) then return end
  end
  free(q, m)
end

local function forget_attempts(q, ...)
  if not attempted(q) then return end
  call('HDEL', q.attempts, ...)
  call('HDEL', q.verdicts, ...)
end

-- Everything about the message is forgotten; it must have left ready, scheduled, leased and dead.
local function forget(q, m, now)
  call('HDEL', q.messages, m.id)
  call('HDEL', q.deliveries, m.id)
  forget_attempts(q, m.id)
  if m.task ~= m.id then call('ZREM', q.tasks, task_member(m)) end
  leave_key(q, m, now)
  free_if_last(q, m)
end

-- A dead letter is forgotten; when it died it left its key and its uniqueness.
local function forget_dead(q, id, kind)
  local m = load(q, id)
  if m then note(q, kind, m.task, 'm', id) end
  if m and m.task ~= id then call('ZREM', q.tasks, task_member(m)) end
  call('HDEL', q.messages, id)
  call('HDEL', q.burials, id)
  call('ZREM', q.dead, id)
end

-- Dead letters beyond the queue's count or age are forgotten, the oldest first.
local function trim(q, now)
  local most, age = unpack(call('HMGET', q.limits, 'dead_max', 'dead_age'))
  local over = call('ZCARD', q.dead) - (tonumber(most) or 10000)
  local gone = {}
  if over > 0 then gone = call('ZRANGE', q.dead, 0, math.min(over, BATCH) - 1)
  else
    local limit = now - (tonumber(age) or 2592000000)
    gone = call('ZRANGEBYSCORE', q.dead, '-inf', '(' .. string.format('%.0f', limit), 'LIMIT', 0, BATCH)
  end
  for _, id in ipairs(gone) do forget_dead(q, id, 'forget') end
  count(q, 'forgotten', #gone)
end

-- A leased message becomes a dead letter.
local function bury(q, m, times, reason, error, now)
  if noting(q) then
    local begun, record = attempts_of(q, m.id), call('HGET', q.messages, m.id)
    note(q, 'bury', m.task, 'm', m.id, 'n', begun, 'x', reason, 'y', error, 'r', record)
  end
  forget_attempts(q, m.id)
  call('ZREM', q.leased, m.id)
  call('HDEL', q.deliveries, m.id)
  call('HDEL', q.cancelled, m.id)
  call('ZADD', q.dead, now, m.id)
  call('HSET', q.burials, m.id, struct.pack('>HBc0', times, #reason, reason) .. error)
  leave_key(q, m, now)
  free_if_last(q, m)
  count(q, 'buried', 1)
  trim(q, now)
  ring(q)
end

-- The attempt at a message that leaves its worker did not come to a verdict: it is over all the same.
local function break_off(q, m, why)
  local begun, running, by = attempts_of(q, m.id)
  if not running then return end
  set_attempts(q, m.id, begun, false, by)
  note(q, 'lost', m.task, 'm', m.id, 'n', begun, 'x', why)
end

-- A leased message that was cancelled, or was acked, is gone for good.
local function finish(q, m, now)
  call('ZREM', q.leased, m.id)
  call('HDEL', q.cancelled, m.id)
  forget(q, m, now)
  ring(q)
end

-- A leased message whose task was cancelled is not handed out again.
local function drop(q, m, now)
  note(q, 'cancel', m.task, 'm', m.id)
  finish(q, m, now)
  count(q, 'cancelled', 1)
end

-- A leased message whose attempt came to the verdict to be tried again: back to its old place, at once or later.
-- Its deliveries are counted anew: they came to something.
local function try_again(q, m, delay, now)
  call('ZREM', q.leased, m.id)
  call('HDEL', q.deliveries, m.id)
  call('HDEL', q.verdicts, m.id)
  place(q, m, delay > 0 and now + delay, now)
  count(q, 'retried', 1)
end

-- What becomes of a message that leaves its worker without an ack, if that is settled already: by the verdict that its
-- attempt came to, or by the end of its task. Returns the code then, else nothing.
local function wind_up(q, m, now)
  local verdict, delay = verdict_of(q, m.id)
  if verdict == DONE_WITH then
    finish(q, m, now)
    count(q, 'acked', 1)
    return DONE
  end
  if call('HEXISTS', q.cancelled, m.id) == 1 then
    drop(q, m, now)
    return CANCELLED
  end
  if not verdict then return end
  try_again(q, m, delay, now)
  return DONE
end

local function most_deliveries(q, m)
  return m.limit or tonumber(call('HGET', q.limits, 'max_deliveries') or DEFAULT_DELIVERIES)
end

-- Leases: the ids of ARGV[from], ARGV[from + 2], ... each followed by its token. Calls `each(id, times, flags,
-- score)` for those that are held with that token; returns one code per id.
local function settle(q, from, each)
  local ids, codes, seen = {}, {}, {}
  for at = from, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
  if #ids == 0 then return codes end
  local values = call('HMGET', q.deliveries, unpack(ids))
  for index, id in ipairs(ids) do
    local value = values[index]
    if not value or seen[id] then codes[index] = UNKNOWN
    else
      local times, flags, score, token = unpack_delivery(value)
      if token == '' or token ~= ARGV[from + index * 2 - 1] then codes[index] = STALE
      else
        seen[id] = true
        codes[index] = each(id, times, flags, score)
      end
    end
  end
  return codes
end
