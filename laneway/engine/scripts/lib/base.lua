-- Shared by every script: key names, the journal, wakeups, expiry and counters.
-- script_loader.py replaces `NAMES` and the other names in capitals (`STATUS_DONE`, `SPAN`, ...) by their values.
local BATCH = 1000 -- one call moves at most this many messages that are due, have expired, or exceed a limit
local call = redis.call

-- The keys of a queue: `keys_of(prefix).ready` is '<prefix>:ready'.
local key_names = { __index = function(q, name)
  local key = q.prefix .. ':' .. name
  q[name] = key
  return key
end }
local function keys_of(prefix) return setmetatable({ prefix = prefix }, key_names) end

-- The keys of a queue that this version can use, and its limits; one that is not set is nil. Raises an error for a queue
-- that a newer version has changed. The most unread events of its journal are `q.most_unread`: false when it has none.
local function names(prefix)
  local q, limits = keys_of(prefix), {}
  local fields = call('HGETALL', q.limits)
  for at = 1, #fields, 2 do limits[fields[at]] = tonumber(fields[at + 1]) end
  if limits.format and limits.format > QUEUE_FORMAT then
    error(string.format('%s %s %.0f', NEWER_QUEUE, prefix, limits.format), 0)
  end
  q.most_unread, q.expires = limits.journal or false, limits.expires or false
  q.has_ranks, q.has_slots, q.has_lines = limits.ranks ~= nil, limits.slots ~= nil, limits.lines ~= nil
  return q, limits
end

-- Appends an event to the journal, if the queue has one. The script that makes the change calls this, so that neither
-- exists without the other. The fields are those of journal.py.
local function write_event(q, kind, task, ...)
  if q.most_unread then call('XADD', q.journal, '*', 'e', kind, 't', task, ...) end
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

-- Restarts the expiry of every key of the queue, if it expires when unused. Call it last, so that keys made by this call
-- expire too.
local function extend_expiry(q)
  if not q.expires then return end
  for _, name in ipairs(NAMES) do call('PEXPIRE', q[name], q.expires) end
end

local function count(q, name, n)
  if n > 0 then call('HINCRBY', q.counters, name, n) end
end
