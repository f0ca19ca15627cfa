-- The record of envelope.py, and the delivery state of a message that was or is leased.
local HAS_TASK, HAS_KEY, HAS_UNIQUE, HAS_LIMIT, HAS_ETA = 1, 2, 4, 8, 16
local HAS_TIES = 7 -- task, key or unique: its end concerns more than itself
local UNTIL_START, UNTIL_DONE, FOR_TIME = 1, 2, 3
local DEFAULT_DELIVERIES = 5

-- The fields of a record; `from` is where its flags are: 9 when complete, 1 before it has a score.
local function parse(id, record, from)
  local flags, priority, at = struct.unpack('>BB', record, from)
  local m = { id = id, task = id, flags = flags, priority = priority }
  if from == 9 then m.score = struct.unpack('>d', record) end
  if flags == 0 then return m end
  if bit.band(flags, HAS_TASK) ~= 0 then m.task, at = struct.unpack('>Bc0', record, at) end
  if bit.band(flags, HAS_KEY) ~= 0 then m.key, at = struct.unpack('>Bc0', record, at) end
  if bit.band(flags, HAS_UNIQUE) ~= 0 then m.mode, m.ttl, m.unique, at = struct.unpack('>BdBc0', record, at) end
  if bit.band(flags, HAS_LIMIT) ~= 0 then m.limit, at = struct.unpack('>H', record, at) end
  if bit.band(flags, HAS_ETA) ~= 0 then m.eta = struct.unpack('>d', record, at) end
  return m
end

local function load(q, id)
  local record = call('HGET', q.messages, id)
  return record and parse(id, record, 9)
end

-- deliveries: times handed out, flags and score of the record, token of the lease ('' when not leased).
local function pack_delivery(times, flags, score, token)
  return struct.pack('>HBd', math.min(times, 65535), flags, score) .. token
end

-- Whether attempts are kept of any message here, asked once a call; a message with a verdict has them, too.
local attempted_ = {}
local function attempted(q)
  if attempted_[q.attempts] == nil then attempted_[q.attempts] = call('EXISTS', q.attempts) == 1 end
  return attempted_[q.attempts]
end

-- attempts: how many were begun, whether the last one runs, and the call that began it
local function set_attempts(q, id, begun, running, by)
  call('HSET', q.attempts, id, struct.pack('>HB', math.min(begun, 65535), running and 1 or 0) .. by)
  attempted_[q.attempts] = true
end

local function attempts_of(q, id)
  local value = attempted(q) and call('HGET', q.attempts, id)
  if not value then return 0, false, '' end
  local begun, running = struct.unpack('>HB', value)
  return begun, running == 1, string.sub(value, 4)
end

-- verdicts: DONE_WITH, AGAIN or SNOOZE, and the delay in ms
local DONE_WITH, AGAIN, SNOOZE = 1, 2, 3
local function verdict_of(q, id)
  local value = attempted(q) and call('HGET', q.verdicts, id)
  if value then return struct.unpack('>Bd', value) end
end

local function unpack_delivery(value)
  local times, flags, score = struct.unpack('>HBd', value)
  return times, flags, score, string.sub(value, 12)
end
