-- Puts messages into a queue. Each message is accepted or refused on its own.
-- KEYS   1: the queue
-- ARGV   1: the producer ('' for none)  2: number of its call: a call that is sent again has the same number
--        3: the time (ms) after which nothing is queued ('' for none)
--        4: version of the tasks ('' for none): a cancelled version is refused
--        then per message: "=id" or "?task id" (the server chooses the id), record without score
-- Returns for each message that was refused or renamed: index from 1, code (replies.PutCode), detail (id, task that
--        holds the uniqueness key, size, or ms too late); nothing for a message that was accepted under its own id
-- uses: base clock
local FIRST = 5 -- index in ARGV of the first message
local NAME_AT = 3 -- position of the length byte of the task's name in a record without score and optional fields
local q, limits = names(KEYS[1])
local last_call_key = ARGV[1] ~= '' and KEYS[1] .. ':producer:' .. ARGV[1]
if last_call_key then -- the two sendings of a call may arrive in either order: the second one queues nothing
  local last = call('GET', last_call_key)
  if last then
    local number, reply = last, {}
    if not tonumber(last) then number, reply = cmsgpack.unpack(last) end
    if tonumber(number) >= tonumber(ARGV[2]) then
      call('SET', last_call_key, last, 'PX', 60000) -- WAIT and WAITAOF wait for a write of this connection
      return number == ARGV[2] and reply or {}
    end
  end
end

local reply = {}
local function report(index, code, detail)
  reply[#reply + 1] = index
  reply[#reply + 1] = code
  reply[#reply + 1] = detail
end

local us = clock()
local now = math.floor(us / 1000)
if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then
  for index = 1, (#ARGV - FIRST + 1) / 2 do report(index, PUT_TOO_LATE, now - tonumber(ARGV[3])) end
  return reply
end
local max_size = limits.max_size
local counters = call('HMGET', q.counters, 'sequence', 'put')
local sequence = tonumber(counters[1] or 0)
local has_tasks = call('EXISTS', q.tasks) == 1
local has_withdrawn = ARGV[4] ~= '' and call('EXISTS', q.withdrawn) == 1
local size = max_size and call('HLEN', q.messages) - call('ZCARD', q.leased) - call('ZCARD', q.dead)
local accepted, woken, large = 0, false, limits.large
local interval = limits.interval
if interval and (limits.tat or 0) - ((limits.burst or 1) - 1) * interval > us then
  woken = call('EXISTS', q.ready) == 1 -- the rate limit delivers nothing now, and who waits for it knows the time
end
local unread = q.most_unread and call('XLEN', q.journal)

-- From now on a fetch looks at the sizes of the queue's messages.
local function note_large()
  call('HSET', q.limits, 'large', '1')
  large = true
end

local function journal_full() return unread and unread >= q.most_unread end

-- Puts a plain message and returns true. Returns false, and does nothing, for a message with optional fields, with an
-- id that is taken, with a task that may have other messages or may be cancelled, or without room in the queue or the
-- journal.
local function put_plain(index)
  local record = ARGV[index + 1]
  local flags, priority = string.byte(record, 1, 2)
  if (flags ~= 0 and flags ~= BODY_KNOWN) or has_tasks or has_withdrawn or limits.tenants then return false end
  if (max_size and size >= max_size) or journal_full() then return false end
  local id, score = string.sub(ARGV[index], 2), (9 - priority) * SPAN + sequence + 1
  if call('HSETNX', q.messages, id, struct.pack('>d', score) .. record) == 0 then return false end
  if not large and #record > LARGE then note_large() end
  call('ZADD', q.ready, score, id)
  if not woken then woken = wake_consumer(q) or true end
  if unread then
    write_event(q, EVENT_PUT, id, 'm', id, 'r', struct.pack('>d', score) .. journal_record(record, flags, NAME_AT))
    unread = unread + 1
  end
  sequence, accepted, size = sequence + 1, accepted + 1, size and size + 1
  return true
end

sequence = math.max(sequence, math.floor((us - EPOCH_US) / TICK_US))
local index = FIRST
while index <= #ARGV and put_plain(index) do index = index + 2 end

if index <= #ARGV then
  -- uses: record places queueing
  local function any_cancelled(ids)
    for _, id in ipairs(ids) do
      if call('HEXISTS', q.cancelled, id) == 1 then return true end
    end
    return false
  end

  local function is_withdrawn(task)
    local version = has_withdrawn and call('ZSCORE', q.withdrawn, task)
    return version and tonumber(ARGV[4]) <= tonumber(version)
  end

  local function store(m, record)
    sequence = sequence + 1
    m.score = (9 - m.priority) * SPAN + sequence
    call('HSET', q.messages, m.id, struct.pack('>d', m.score) .. record)
    if m.flow or limits.tenants then
      -- uses: flow
      give_rank(q, m, limits, sequence)
    end
    if not large and #record > LARGE then note_large() end
    if m.task ~= m.id then
      call('ZADD', q.tasks, 0, task_member(m))
      has_tasks = true
    end
  end

  -- Gives another id to a message whose id is taken. That id was its task id, so the record must now contain the task.
  local function rename(m, record)
    m.id, m.flags, m.name_at = string.format('%.0f', sequence + 1), m.flags + HAS_TASK, m.name_at + 1 + #m.task
    return struct.pack('>BBBc0', m.flags, m.priority, #m.task, m.task) .. string.sub(record, 3)
  end

  -- Puts any message. A continuation (the queue has another message of its task) is accepted even if the queue or the
  -- journal is full or another task holds the uniqueness key.
  local function put_any(number, named, id, record)
    local m = parse(id, record, RECORD_WITHOUT_SCORE)
    if call('HEXISTS', q.messages, id) == 1 then
      if named then return report(number, PUT_EXISTS, id) end
      record = rename(m, record)
    end
    if is_withdrawn(m.task) then return report(number, PUT_CANCELLED, id) end
    local others = messages_of_task(q, m.task, m.id)
    local continues = #others > 0
    if continues then
      if any_cancelled(others) then return report(number, PUT_CANCELLED, id) end
    elseif max_size and size >= max_size then
      return report(number, PUT_FULL, size)
    elseif journal_full() then
      return report(number, PUT_JOURNAL_FULL, unread)
    end
    if m.unique then
      release_expired_unique(q, now)
      local holder = unique_holder(q, m.unique, now)
      if holder and holder ~= m.task and not continues then
        count(q, 'duplicates', 1)
        return report(number, PUT_DUPLICATE, holder)
      end
      if not holder then hold_unique(q, m, now) end
    end
    store(m, record)
    if unread then
      local kept = journal_record(record, m.flags, m.name_at)
      write_event(q, EVENT_PUT, m.task, 'm', m.id, 'r', struct.pack('>d', m.score) .. kept)
      unread = unread + 1
    end
    hold_or_enqueue(q, m, now, continues)
    accepted, size = accepted + 1, size and size + 1
    if m.id ~= id then report(number, PUT_ACCEPTED, m.id) end
  end

  for next_index = index, #ARGV, 2 do
    if not put_plain(next_index) then
      local id_argument = ARGV[next_index]
      local named, id = string.sub(id_argument, 1, 1) == '=', string.sub(id_argument, 2)
      put_any((next_index - FIRST) / 2 + 1, named, id, ARGV[next_index + 1])
    end
  end
end

if accepted > 0 then
  local puts = string.format('%.0f', (counters[2] or 0) + accepted)
  call('HSET', q.counters, 'sequence', string.format('%.0f', sequence), 'put', puts)
end
extend_expiry(q)
if last_call_key then -- the call's number alone if the reply is empty, which is the usual case
  call('SET', last_call_key, #reply > 0 and cmsgpack.pack(ARGV[2], reply) or ARGV[2], 'PX', 60000)
end
return reply
