-- Shared by every script: key names, the journal, wakeups, expiry and counters.
-- script_loader.py puts `NAMES` and the constants in capitals (`STATUS_DONE`, `SPAN`, ...) before it.
local BATCH = 1000 -- one call moves at most this many messages that are due, have expired, or exceed a limit
local call = redis.call

-- The keys of a queue: `keys_of(prefix).ready` is '<prefix>:ready'.
local function keys_of(prefix)
  return setmetatable({}, { __index = function(known, name)
    local key = prefix .. ':' .. name
    rawset(known, name, key)
    return key
  end })
end

local LIMITS = {
  'format', 'newer', 'journal', 'max_size', 'max_in_flight', 'expires', 'large', 'interval', 'burst', 'tat', 'paused',
  'handed_on', 'ranks', 'tenants', 'slots', 'lines', 'task_limits', 'max_wait',
}
local FLAGS = { has_ranks = 'ranks', has_slots = 'slots', has_lines = 'lines' }
local journal_limits = {}

-- The keys of a queue that this version can use, and those of its limits that most scripts need. Raises an error for a
-- queue that a newer version has changed.
local function names(prefix)
  local q, limits = keys_of(prefix), {}
  rawset(q, 'prefix', prefix)
  rawset(q, 'root', string.match(prefix, '^[^{]*') .. 'limit:')
  local values = call('HMGET', q.limits, unpack(LIMITS))
  for index, name in ipairs(LIMITS) do limits[name] = tonumber(values[index] or nil) or false end
  if limits.format and limits.format > QUEUE_FORMAT then
    error(string.format('%s %s %.0f', NEWER_QUEUE, prefix, limits.format), 0)
  end
  for field, flag in pairs(FLAGS) do rawset(q, field, limits[flag] and true) end
  journal_limits[q.journal] = limits.journal
  return q, limits
end

-- The most unread events of the queue's journal (limit `journal`); false when it has no journal.
local function journal_limit(q) return journal_limits[q.journal] end

-- Appends an event to the journal, if the queue has one. The script that makes the change calls this, so that neither
-- exists without the other. The fields are those of journal.py.
local function write_event(q, kind, task, ...)
  if journal_limit(q) then call('XADD', q.journal, '*', 'e', kind, 't', task, ...) end
end

-- The record without its body. `name_at`: the position of the task name's length byte.
local function without_body(record, name_at)
  return string.sub(record, 1, name_at + (string.byte(record, name_at) or 0))
end

-- The record as the journal stores it: without its body if the journal's reader has the body.
local function journal_record(record, flags, name_at)
  return bit.band(flags, BODY_KNOWN) == 0 and record or without_body(record, name_at)
end

-- Lets the rest of the script run on a server whose memory is full. A server refuses only the first write of a script,
-- and only if that write may take memory. So everything that ends, renews or frees begins with a write that takes none.
local function work_on_full_server(q)
  call('HDEL', q.limits, '')
end

local function wake_consumer(q)
  call('ZADD', q.wakeup, 0, '1')
end

-- Restarts the expiry of every key of the queue.
local function set_expiry(q, expires)
  for _, name in ipairs(NAMES) do call('PEXPIRE', q[name], expires) end
end

-- Restarts the expiry of a queue that expires when unused. Call it last, so that keys made by this call expire too.
local function extend_expiry(q)
  local expires = call('HGET', q.limits, 'expires')
  if expires then set_expiry(q, expires) end
end

local function count(q, name, n)
  if n > 0 then call('HINCRBY', q.counters, name, n) end
end
