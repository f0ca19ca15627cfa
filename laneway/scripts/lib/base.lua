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
