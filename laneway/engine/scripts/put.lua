-- Puts messages into a queue, or refuses them, one by one.
-- KEYS   1: the queue
-- ARGV   1: the producer ('' for none)  2: its call number  3: '1' when the call repeats one whose answer was lost
--        4: the time (ms) past which nothing is queued ('' for none)
--        then per message: "=id" or "?task id" (the server chooses the id), record without score
-- Returns the refused and the renamed ones: index from 1, code (answers.PutCode), detail (id, holder's task, size
--        or ms too late) ..., nothing for what was accepted under the id it came with.
-- uses: base clock
local ACCEPTED, EXISTS, TAKEN, FULL, STOPPED, BEHIND, LATE = 0, 1, 2, 3, 4, 5, 6
local q = names(KEYS[1])
local slot = ARGV[1] ~= '' and KEYS[1] .. ':producer:' .. ARGV[1]
if ARGV[3] == '1' and slot then
  local last = call('GET', slot)
  if last then
    local number, answers = last, {}
    if last ~= ARGV[2] then number, answers = cmsgpack.unpack(last) end
    if number == ARGV[2] then
      call('SET', slot, last, 'PX', 60000) -- a write of this connection's own, for WAIT and WAITAOF to wait for
      return answers
    end
  end
end

local us = clock()
local now = math.floor(us / 1000)
if ARGV[4] ~= '' and now > tonumber(ARGV[4]) then
  local answers = {}
  for index = 1, (#ARGV - 4) / 2 do
    answers[#answers + 1] = index
    answers[#answers + 1] = LATE
    answers[#answers + 1] = now - tonumber(ARGV[4])
  end
  return answers
end
local limits = call('HMGET', q.limits, 'max_size', 'expires', 'journal')
noted[q.journal] = tonumber(limits[3]) or false
local max_size = tonumber(limits[1])
local counters = call('HMGET', q.counters, 'sequence', 'put')
local sequence = tonumber(counters[1] or 0)
local tasks_known = call('EXISTS', q.tasks) == 1
local size = max_size and call('HLEN', q.messages) - call('ZCARD', q.leased) - call('ZCARD', q.dead)
local answers, accepted, rung = {}, 0, false
local unread = noting(q) and call('XLEN', q.journal)

local function behind() return unread and unread >= noting(q) end

local function refuse(index, code, detail)
  answers[#answers + 1] = index
  answers[#answers + 1] = code
  answers[#answers + 1] = detail
end

-- A plain message: no key, no uniqueness, no delay, nothing else of its task in the queue, and room for it.
local function put_plain(at)
  local record = ARGV[at + 1]
  local flags, priority = string.byte(record, 1, 2)
  if flags ~= 0 or tasks_known or (max_size and size >= max_size) or behind() then return false end
  local id, score = string.sub(ARGV[at], 2), (9 - priority) * SPAN + sequence + 1
  if call('HSETNX', q.messages, id, struct.pack('>d', score) .. record) == 0 then return false end
  call('ZADD', q.ready, score, id)
  if not rung then rung = ring(q) or true end
  if unread then
    note(q, 'put', id, 'm', id, 'r', struct.pack('>d', score) .. record)
    unread = unread + 1
  end
  sequence, accepted, size = sequence + 1, accepted + 1, size and size + 1
  return true
end

sequence = math.max(sequence, math.floor((us - EPOCH) / 10))
local at = 5
while at <= #ARGV and put_plain(at) do at = at + 2 end

if at <= #ARGV then
  -- uses: record moves
  local function cancelled(others)
    for _, id in ipairs(others) do
      if call('HEXISTS', q.cancelled, id) == 1 then return true end
    end
    return false
  end

  local function store(m, record)
    sequence = sequence + 1
    m.score = (9 - m.priority) * SPAN + sequence
    call('HSET', q.messages, m.id, struct.pack('>d', m.score) .. record)
    if m.task ~= m.id then
      call('ZADD', q.tasks, 0, task_member(m))
      tasks_known = true
    end
  end

  -- A message whose id is taken gets another; its task id, until then its id, goes into the record.
  local function rename(m, record)
    m.id, m.flags = string.format('%.0f', sequence + 1), m.flags + HAS_TASK
    return struct.pack('>BBBc0', m.flags, m.priority, #m.task, m.task) .. string.sub(record, 3)
  end

  -- Any message. A continuation (another of its task is here) is never refused for want of room or uniqueness.
  local function put_any(index, named, id, record)
    local m = parse(id, record, 1)
    if call('HEXISTS', q.messages, id) == 1 then
      if named then return refuse(index, EXISTS, id) end
      record = rename(m, record)
    end
    local others = siblings(q, m)
    local continues = #others > 0
    if continues then
      if cancelled(others) then return refuse(index, STOPPED, id) end
    elseif max_size and size >= max_size then
      return refuse(index, FULL, size)
    elseif behind() then
      return refuse(index, BEHIND, unread)
    end
    if m.unique then
      sweep(q, now)
      local by = holder(q, m.unique, now)
      if by and by ~= m.task and not continues then
        count(q, 'duplicates', 1)
        return refuse(index, TAKEN, by)
      end
      if not by then hold(q, m, now) end
    end
    store(m, record)
    if unread then
      note(q, 'put', m.task, 'm', m.id, 'r', struct.pack('>d', m.score) .. record)
      unread = unread + 1
    end
    file(q, m, now, continues)
    accepted, size = accepted + 1, size and size + 1
    if m.id ~= id then refuse(index, ACCEPTED, m.id) end
  end

  for from = at, #ARGV, 2 do
    if not put_plain(from) then
      put_any((from - 3) / 2, string.byte(ARGV[from]) == 61, string.sub(ARGV[from], 2), ARGV[from + 1])
    end
  end
end

if accepted > 0 then
  local puts = string.format('%.0f', (counters[2] or 0) + accepted)
  call('HSET', q.counters, 'sequence', string.format('%.0f', sequence), 'put', puts)
end
if limits[2] then touch(q, limits[2]) end
if slot then -- the call's number alone when there is nothing to say, as most times
  call('SET', slot, #answers > 0 and cmsgpack.pack(ARGV[2], answers) or ARGV[2], 'PX', 60000)
end
return answers
