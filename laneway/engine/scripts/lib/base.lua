-- Shared by every script: the queue's key names, the clock, the bell. `NAMES` comes from keys.py.
local BATCH = 1000 -- the most that one call moves of due, expired or trimmed messages
local SPAN, EPOCH = 900000000000000, 1735689600000000
local DONE, STALE, UNKNOWN, CANCELLED, BURIED, DUPLICATE = 0, 1, 2, 3, 4, 5
local call = redis.call

local function names(prefix)
  return setmetatable({}, { __index = function(made, name)
    local key = prefix .. ':' .. name
    rawset(made, name, key)
    return key
  end })
end

-- Notes what happened to a message, for whoever keeps the history, if anyone does (limit `journal`). In the same script
-- as the change itself: neither is there without the other. Fields: see journal.py.
local noted = {}
local function noting(q)
  local on = noted[q.journal]
  if on == nil then
    on = tonumber(call('HGET', q.limits, 'journal')) or false
    noted[q.journal] = on
  end
  return on
end

local function note(q, kind, task, ...)
  if noting(q) then call('XADD', q.journal, '*', 'e', kind, 't', task, ...) end
end

local function ring(q)
  call('ZADD', q.bell, 0, '1')
end

-- An expiring queue lives on for as long as it is used.
local function touch(q, expires)
  for _, name in ipairs(NAMES) do call('PEXPIRE', q[name], expires) end
end

-- To be called last: keys made by this very call must expire too.
local function keep(q)
  local expires = call('HGET', q.limits, 'expires')
  if expires then touch(q, expires) end
end

local function count(q, name, n)
  if n > 0 then call('HINCRBY', q.counters, name, n) end
end
