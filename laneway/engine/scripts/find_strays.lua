-- Looks through one page of one key of a queue for messages that are in no state, and for references to messages that
-- the queue does not have. Somebody else deleted keys or fields, or the server evicted them. Repairs them if asked to. A
-- message that only a newer version can read is left to that version.
-- KEYS   1: the queue
-- ARGV   1: the key to look through: one of admin.CHECKED  2: cursor of the page  3: '1' to repair
-- Returns the cursor of the next page ('0': this was the last one), then kind (replies.Stray), id, kind, id, ...
-- uses: base clock deliveries record attempts places queueing moves
local PAGE = 500
local LEASE_MS = 30000
local SHORTEST_MEMBER = 11 -- of `held` and `tasks`; a shorter one is not ours
local q = names(KEYS[1])
local name, cursor, repair = ARGV[1], ARGV[2], ARGV[3] == '1'
local now = math.floor(clock() / 1000)
local found = {}

local function report(kind, id)
  found[#found + 1] = kind
  found[#found + 1] = id
end

local function is_waiting_or_leased(id)
  for _, state in ipairs({ STATE_READY, STATE_SCHEDULED, STATE_LEASED, STATE_SET_ASIDE }) do
    if call('ZSCORE', q[state], id) then return true end
  end
  return call('HEXISTS', q.limited_in, id) == 1
end

-- Puts a message that is in no state back into one. If a worker may hold it, the worker keeps it until it acks it, or
-- until a lease is over.
local function put_back(m)
  local value = call('HGET', q.deliveries, m.id)
  local deliveries, _, _, token = 0, nil, nil, ''
  if value then deliveries, _, _, token = unpack_delivery(value) end
  if token ~= '' then
    call('ZADD', q.leased, now + LEASE_MS, m.id)
  elseif m.key and call('HGET', q.heads, m.key) == m.id then
    enqueue(q, m, deliveries == 0 and m.eta, now)
  else
    hold_or_enqueue(q, m, now, false)
  end
end

-- Keeps a record that nothing refers to and that cannot be read, as a dead letter: somebody may still need its bytes.
local function keep_unreadable(id)
  call('ZADD', q.dead, now, id)
  call('HSET', q.dead_info, id, struct.pack('>HBc0', 0, #'unreadable', 'unreadable') .. 'its record cannot be read')
  count(q, 'buried', 1)
end

local function check_message(id)
  if is_waiting_or_leased(id) or call('ZSCORE', q.dead, id) or is_newer(call('HGET', q.messages, id)) then return end
  local m = load(q, id)
  if not m then
    report(STRAY_UNREADABLE, id)
    if repair then keep_unreadable(id) end
  elseif not is_held(q, m) then
    report(STRAY_MESSAGE, id)
    if repair then put_back(m) end
  end
end

local function check_reference(id)
  if call('HEXISTS', q.messages, id) == 1 then return end
  report(STRAY_REFERENCE, id)
  if repair then drop_unreadable(q, { id }, now) end
end

local function check_head(key, id)
  local m, newer = load(q, id), is_newer(call('HGET', q.messages, id))
  if is_waiting_or_leased(id) then return end
  if (newer or m and not is_held(q, m)) and not call('ZSCORE', q.dead, id) then return end
  report(STRAY_KEY, id)
  if repair then leave_key(q, { id = id, key = key }, now) end
end

local function check_held(member)
  if #member < SHORTEST_MEMBER then return end
  local id, key = id_of_member(member), string.sub(member, 2, 1 + string.byte(member))
  if call('HEXISTS', q.messages, id) == 0 then
    report(STRAY_REFERENCE, id)
    if repair then call('ZREM', q.held, member) end
  elseif call('HEXISTS', q.heads, key) == 0 then
    report(STRAY_KEY, id)
    if repair then
      call('HSET', q.heads, key, '') -- no message has this id: the first one that is held takes its place
      leave_key(q, { id = '', key = key }, now)
    end
  end
end

local function check_task(member)
  if #member < SHORTEST_MEMBER then return end
  local id = id_of_member(member)
  if call('HEXISTS', q.messages, id) == 1 then return end
  report(STRAY_REFERENCE, id)
  if repair then call('ZREM', q.tasks, member) end
end

local function check_unique(key, task)
  if call('ZSCORE', q.unique_until, key) or #messages_of_task(q, task, '') > 0 then return end
  report(STRAY_UNIQUE, task)
  if repair then call('HDEL', q.unique, key) end
end

local checks = {
  messages = check_message, held = check_held, heads = check_head, tasks = check_task, unique = check_unique,
}
local scans = { hash = 'HSCAN', zset = 'ZSCAN' }
local scan = scans[call('TYPE', q[name]).ok]
if not scan then return { '0' } end -- there is no such key; fetch reports one of another type
local page = call(scan, q[name], cursor, 'COUNT', PAGE)
if repair then work_on_full_server(q) end
for index = 1, #page[2], 2 do (checks[name] or check_reference)(page[2][index], page[2][index + 1]) end
if #found > 0 and repair then
  wake_consumer(q)
  extend_expiry(q)
end
return { page[1], unpack(found) }
