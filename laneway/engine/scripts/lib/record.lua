-- Reads the record of message.py.
local ALL_FIELDS = HAS_TASK + HAS_KEY + HAS_UNIQUE + HAS_LIMIT + HAS_ETA + HAS_FLOW
local DEFAULT_MAX_DELIVERIES = 5
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
