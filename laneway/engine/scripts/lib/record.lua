-- Reads the record of message.py, and reads and writes what the queue keeps of deliveries and attempts.
local HOLDS_SLOTS = 128 -- only in `deliveries`: the message occupies limits
local HAS_TIES = HAS_TASK + HAS_KEY + HAS_UNIQUE + HAS_FLOW + HOLDS_SLOTS -- ending such a message changes other keys too
local ALL_FIELDS = HAS_TIES + HAS_LIMIT + HAS_ETA
local DEFAULT_MAX_DELIVERIES = 5
local MAX_COUNT = 65535 -- counts are stored in 2 bytes
local RECORD = 9 -- position of the flags in a complete record, after the score
local RECORD_WITHOUT_SCORE = 1 -- position of the flags in a record without the score
local NEWER = FORMAT_STEP * (FORMAT + 1) -- a byte of format and priority that has at least this value is of a newer format

-- The fields of a record; `start` is the position of its flags: RECORD or RECORD_WITHOUT_SCORE. `name_at` is the
-- position of the task name's length byte.
local function parse(id, record, start)
  local flags, priority, next_byte = struct.unpack('>BB', record, start)
  if priority >= NEWER then error('a newer format') end
  local m = { id = id, task = id, flags = flags, priority = priority % FORMAT_STEP }
  if start == RECORD then m.score = struct.unpack('>d', record) end
  m.name_at = next_byte
  if flags == 0 then return m end
  if bit.band(flags, HAS_TASK) ~= 0 then m.task, next_byte = struct.unpack('>Bc0', record, next_byte) end
  if bit.band(flags, HAS_KEY) ~= 0 then m.key, next_byte = struct.unpack('>Bc0', record, next_byte) end
  if bit.band(flags, HAS_UNIQUE) ~= 0 then
    m.mode, m.ttl, m.unique, next_byte = struct.unpack('>BdBc0', record, next_byte)
  end
  if bit.band(flags, HAS_LIMIT) ~= 0 then m.limit, next_byte = struct.unpack('>H', record, next_byte) end
  if bit.band(flags, HAS_ETA) ~= 0 then m.eta, next_byte = struct.unpack('>d', record, next_byte) end
  if bit.band(flags, HAS_FLOW) ~= 0 then m.flow, next_byte = struct.unpack('>Hc0', record, next_byte) end
  m.name_at = next_byte
  return m
end

-- The message with this id; false when the queue has none, or has a record that cannot be read.
local function load(q, id)
  local record = call('HGET', q.messages, id)
  if not record then return false end
  local readable, m = pcall(parse, id, record, RECORD)
  return readable and m
end

-- True for a record that only a newer version can read.
local function is_newer(record)
  return record and #record > RECORD and string.byte(record, RECORD + 1) >= NEWER
end

-- True for a record that can be read. Only a record with optional fields has to be parsed to know.
local function is_record(record)
  if not record or #record <= RECORD or string.byte(record, RECORD + 1) >= NEWER then return false end
  return bit.band(string.byte(record, RECORD), ALL_FIELDS) == 0 or (pcall(parse, '', record, RECORD))
end

-- The id in a member of `held` or `tasks`: length byte, text, order byte, 8 bytes sequence, id.
local function id_of_member(member)
  return string.sub(member, string.byte(member) + 11)
end

-- An entry of `deliveries`: the count, flags and score of the record, token of the lease ('' when it is not leased).
local function pack_delivery(deliveries, flags, score, token)
  return struct.pack('>HBd', math.min(deliveries, MAX_COUNT), flags, score) .. token
end

local function unpack_delivery(value)
  local deliveries, flags, score = 1, 0, 0
  if #value >= 11 then deliveries, flags, score = struct.unpack('>HBd', value) end -- else pack_delivery did not write it
  return deliveries, flags, score, string.sub(value, 12)
end

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

-- An entry of `handed_on`: since when (ms), how often, how often by a consumer that had done so before, and by whom.
local function read_hand_ons(value)
  if not value or #value < 12 then return false end
  local first, times, rounds = struct.unpack('>dHH', value)
  local h = { first = first, times = times, rounds = rounds, owners = {} }
  for own in string.gmatch(string.sub(value, 13), '[^\n]+') do h.owners[#h.owners + 1] = own end
  return h
end

local function hand_ons_of(q, id)
  return has_attempts(q) and read_hand_ons(call('HGET', q.handed_on, id))
end

local function set_hand_ons(q, id, h)
  local counts = struct.pack('>dHH', h.first, math.min(h.times, MAX_COUNT), math.min(h.rounds, MAX_COUNT))
  call('HSET', q.handed_on, id, counts .. table.concat(h.owners, '\n'))
end

-- The consumer that holds leases with such tokens: owner, random part, number.
local function owner_of(token) return string.match(token, '^(.*)/') or token end

local function is_owner(h, own)
  for _, other in ipairs(h.owners) do if other == own then return true end end
  return false
end

-- The ack action (replies.py) of a message whose attempt has finished, and its delay in ms; nothing if there is none.
local function ack_action_of(q, id)
  local value = has_attempts(q) and call('HGET', q.ack_actions, id)
  if value and #value >= 9 then return struct.unpack('>Bd', value) end
end
