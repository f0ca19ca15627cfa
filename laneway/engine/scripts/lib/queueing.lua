-- How a message comes into a queue: ready, scheduled, or held behind its ordering key.

-- `held` and `tasks` are ordered by their members' bytes: length byte, ordering key or task id, order byte ('\0' for a
-- continuation of the head's task, else '\1'), sequence, id.
local function held_member(m, front)
  return length_prefixed(m.key) .. (front and '\0' or '\1') .. struct.pack('>d', m.score % SPAN) .. m.id
end

local function task_member(m)
  return length_prefixed(m.task) .. '\1' .. struct.pack('>d', m.score % SPAN) .. m.id
end

-- Whether a message waits behind the head of its ordering key.
local function is_held(q, m)
  if not m.key then return false end
  return call('ZSCORE', q.held, held_member(m, false)) or call('ZSCORE', q.held, held_member(m, true))
end

-- The ids of the task's messages, without `except`, at most BATCH.
local function messages_of_task(q, task, except)
  local ids = {}
  if task ~= except and call('HEXISTS', q.messages, task) == 1 then ids[1] = task end
  if call('EXISTS', q.tasks) == 1 then
    for _, member in ipairs(members_with(length_prefixed(task), q.tasks, BATCH)) do
      local id = id_of_member(member)
      if id ~= except then ids[#ids + 1] = id end
    end
  end
  return ids
end

-- Makes a message ready, or schedules it when `due` is in the future. The message must be the head of its ordering key,
-- or have no key.
local function enqueue(q, m, due, now)
  if due and due > now then
    call('ZADD', q.scheduled, due, m.id)
    if call('ZRANK', q.scheduled, m.id) == 0 then wake_consumer(q) end
  else
    call('ZADD', q.ready, ready_score(q, m), m.id)
    wake_consumer(q)
  end
end

-- Adds a new or requeued message: held behind the head of its key if there is a head, else ready or scheduled.
local function hold_or_enqueue(q, m, now, continues)
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
  enqueue(q, m, m.eta, now)
end

-- The task that holds a uniqueness key now; false when there is none.
local function unique_holder(q, unique, now)
  local task = call('HGET', q.unique, unique)
  local ends_at = task and call('ZSCORE', q.unique_until, unique)
  if ends_at and tonumber(ends_at) <= now then return false end
  return task
end

local function hold_unique(q, m, now)
  call('HSET', q.unique, m.unique, m.task)
  if m.ttl > 0 then call('ZADD', q.unique_until, now + m.ttl, m.unique)
  else call('ZREM', q.unique_until, m.unique) end
end

-- Releases uniqueness keys whose time is over, at most BATCH.
local function release_expired_unique(q, now)
  local expired = call('ZRANGEBYSCORE', q.unique_until, '-inf', now, 'LIMIT', 0, BATCH)
  if #expired == 0 then return end
  call('HDEL', q.unique, unpack(expired))
  call('ZREM', q.unique_until, unpack(expired))
end

local function release_unique(q, m)
  if call('HGET', q.unique, m.unique) ~= m.task then return end
  call('HDEL', q.unique, m.unique)
  call('ZREM', q.unique_until, m.unique)
end

-- Releases the uniqueness key of a message that ended, unless another live message of its task has the same key.
local function release_unique_if_last(q, m)
  if not m.unique or m.mode == UNIQUE_FOR_TIME then return end
  for _, id in ipairs(messages_of_task(q, m.task, m.id)) do
    local other = load(q, id)
    local shares = other and other.unique == m.unique and other.mode ~= UNIQUE_FOR_TIME
    if shares and not call('ZSCORE', q.dead, id) then return end
  end
  release_unique(q, m)
end
