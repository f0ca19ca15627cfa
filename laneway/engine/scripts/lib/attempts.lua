-- Reads and writes what the queue keeps of attempts.

-- True when the queue stores attempts of any message; read once per call. A message with an ack action has attempts, and
-- so has one that was handed on.
local attempts_exist = {}
local function has_attempts(q)
  if attempts_exist[q.attempts] == nil then attempts_exist[q.attempts] = call('EXISTS', q.attempts) == 1 end
  return attempts_exist[q.attempts]
end

-- An entry of `attempts`: how many were started, whether the last one runs, and the call that started it.
local function set_attempts(q, id, started, running, call_id)
  call('HSET', q.attempts, id, struct.pack('>HB', math.min(started, MAX_COUNT), running and 1 or 0) .. call_id)
  attempts_exist[q.attempts] = true
end

local function attempts_of(q, id)
  local value = has_attempts(q) and call('HGET', q.attempts, id)
  local started, running, call_id = 0, false, ''
  if value and #value >= 3 then
    local flag
    started, flag = struct.unpack('>HB', value)
    running, call_id = flag == 1, string.sub(value, 4)
  end
  return started, running, call_id
end

-- The ack action (replies.py) of a message whose attempt has finished, and its delay in ms; nothing if there is none.
local function ack_action_of(q, id)
  local value = has_attempts(q) and call('HGET', q.ack_actions, id)
  if value and #value >= 9 then return struct.unpack('>Bd', value) end
end

local function delete_attempts(q, ...)
  if not has_attempts(q) then return end
  call('HDEL', q.attempts, ...)
  call('HDEL', q.ack_actions, ...)
  call('HDEL', q.handed_on, ...)
end

-- The task of a leased message, whose flags are those of its delivery; nil when its record is missing.
local function task_of(q, id, flags)
  if bit.band(flags, HAS_TASK) == 0 then return call('HEXISTS', q.messages, id) == 1 and id or nil end
  -- uses: record
  local m = load(q, id)
  return m and m.task or nil
end

-- Ends the running attempt of a message, if it has one, as lost: nobody has recorded an ack action.
local function lose_attempt(q, m, reason)
  local started, running, call_id = attempts_of(q, m.id)
  if not running then return end
  set_attempts(q, m.id, started, false, call_id)
  write_event(q, EVENT_LOST, m.task, 'm', m.id, 'n', started, 'x', reason)
end
