-- Limits that tasks share, the order of tenants and deadlines, and labels of workers. A message that meets a limit which
-- is used up, or that needs a label that the consumer lacks, waits in a line of `limited` (a sorted set in the order of
-- its members' bytes: length byte, line, '\1', score, id) until the line is opened. The line of a limit is its name, NUL
-- and the key for which it is counted; that of labels is '\1' and the labels.
local LOOK_AGAIN_MS = 5000 -- after this time a line is looked at though nobody has said that its limit has room
local MOST_LINES = 20 -- that a fetch looks at
local TENANT_STEP = 100 -- by so much divided by its weight a tenant's next message comes later
local HOUR_TICKS = 3600000000 / TICK_US

local function flow_key(q, part, name)
  return string.match(q.prefix, '^[^{]*') .. 'limit:' .. part .. ':' .. name
end

-- The flow of a message (flow_fields.py): a table, empty when there are none or they cannot be read.
local function flow_of(m)
  if not m.flow then return {} end
  if not m.decoded then
    local readable, fields = pcall(cjson.decode, m.flow)
    m.decoded = readable and type(fields) == 'table' and fields or {}
  end
  return m.decoded
end

local function tenant_clock(priority) return '\0' .. priority end

-- The rank of the next message of a tenant: behind the tenant's last one by a step, and not before what was delivered
-- last. So tenants take turns, however many messages each one has.
local function rank_of_tenant(q, m, sequence)
  local class, flow = m.score - m.score % SPAN, flow_of(m)
  local weight = math.min(math.max(tonumber(flow.w) or 1, 1), TENANT_STEP)
  local clock_member, member = tenant_clock(m.priority), '\1' .. m.priority .. tostring(flow.t or '')
  local started = tonumber(call('ZSCORE', q.tenants, clock_member) or nil)
  if not started then
    started = class + sequence
    call('ZADD', q.tenants, string.format('%.0f', started), clock_member)
  end
  local rank = math.max(started, tonumber(call('ZSCORE', q.tenants, member) or 0))
  call('ZADD', q.tenants, string.format('%.0f', rank + math.floor(TENANT_STEP / weight)), member)
  if call('ZCARD', q.tenants) > 1000 then -- those that have had nothing for a while need not be remembered
    call('ZREMRANGEBYSCORE', q.tenants, string.format('%.0f', class), string.format('(%.0f', started))
  end
  return rank - class
end

-- Gives a new message its rank if it has a tenant or a deadline. A message with a deadline waits as if it had been put
-- an hour before its deadline. `limits`: see `names`.
local function give_rank(q, m, limits, sequence)
  local flow, rank = flow_of(m), nil
  if tonumber(flow.d) then
    rank = math.floor((flow.d * 1000 - EPOCH_US) / TICK_US) - HOUR_TICKS
    rank = math.min(math.max(rank, 0), SPAN - 1)
  elseif flow.t or limits.tenants then
    if not limits.tenants then
      call('HSET', q.limits, 'tenants', 1)
      limits.tenants = 1
    end
    rank = rank_of_tenant(q, m, sequence)
  end
  if not rank then return end
  if not q.has_ranks then
    call('HSET', q.limits, 'ranks', 1)
    q.has_ranks = true
  end
  call('HSET', q.ranks, m.id, string.format('%.0f', rank))
end

-- The uses of limits of a message: a list of { name, key, points }. `by_name`: there are limits of single task names.
local function uses_of(m, name, by_name)
  local uses, given = {}, flow_of(m).l
  for _, use in ipairs(type(given) == 'table' and given or {}) do
    if type(use) == 'table' and type(use[1]) == 'string' and type(use[2]) == 'string' and #use[1] + #use[2] < 250 then
      uses[#uses + 1] = { use[1], use[2], math.max(tonumber(use[3]) or 1, 1) }
    end
  end
  if by_name and name ~= '' then uses[#uses + 1] = { TASK_LIMIT .. name, '', 1 } end
  return uses
end

local configs = {}
local function config_of(q, name)
  if configs[name] == nil then
    local values = call('HMGET', flow_key(q, 'config', name), 'interval', 'burst', 'max_running')
    local interval, burst, most = unpack(values)
    configs[name] = { interval = tonumber(interval or nil), burst = tonumber(burst or nil) or 1,
      most = tonumber(most or nil) }
  end
  return configs[name]
end

local function running_with(q, name, key)
  local prefix = length_prefixed(key)
  return call('ZLEXCOUNT', flow_key(q, 'running', name), '[' .. prefix, '(' .. prefix .. '\2')
end

-- When the rate of a limit is used up until (us), for this key. A time that the rate cannot have reached comes from a
-- clock that has gone back since.
local function used_until(q, name, key, us)
  local config = config_of(q, name)
  local used, furthest = flow_key(q, 'used', name), us + config.burst * config.interval
  local stored = math.max(tonumber(call('ZSCORE', used, key) or nil) or 0, us)
  if stored <= furthest then return stored end
  call('ZADD', used, string.format('%.0f', furthest), key)
  return furthest
end

-- When the limit lets so many points through (us): nil means now.
local function opens_at(q, name, key, points, us)
  local config = config_of(q, name)
  for _, blocked in ipairs({ key, '' }) do
    local till = tonumber(call('ZSCORE', flow_key(q, 'blocked', name), blocked) or nil)
    if till and till > us then return till end
  end
  if config.interval then
    local needed = math.min(points, config.burst)
    local opens = used_until(q, name, key, us) + (needed - config.burst) * config.interval
    if opens > us then return opens end
  end
  if config.most and running_with(q, name, key) + math.min(points, config.most) > config.most then
    return us + LOOK_AGAIN_MS * 1000
  end
end

local function running_member(q, key, id, point)
  return length_prefixed(key) .. '\1' .. q.prefix .. '\0' .. id .. string.char(point)
end

-- Takes the points of all limits. Remembers what the message occupies while it is leased.
local function take_points(q, id, uses, us)
  local slots = {}
  for _, use in ipairs(uses) do
    local name, key, points = unpack(use)
    local config = config_of(q, name)
    if config.interval then
      local used = flow_key(q, 'used', name)
      local till = used_until(q, name, key, us) + points * config.interval
      call('ZADD', used, string.format('%.0f', till), key)
      call('ZREMRANGEBYSCORE', used, '-inf', string.format('(%.0f', us))
    end
    if config.most then
      local taken = math.min(points, config.most, 100)
      for point = 1, taken do call('ZADD', flow_key(q, 'running', name), 0, running_member(q, key, id, point)) end
      slots[#slots + 1] = { name, key, taken }
    end
  end
  if #slots == 0 then return false end
  call('HSET', q.slots, id, cmsgpack.pack(slots))
  if not q.has_slots then call('HSET', q.limits, 'slots', 1) end
  q.has_slots = true
  return true
end

local function add_to_line(q, line, m, at)
  local member = length_prefixed(line) .. '\1' .. struct.pack('>d', ready_score(q, m)) .. m.id
  call('ZADD', q.limited, 0, member)
  call('HSET', q.limited_in, m.id, member)
  if at then call('ZADD', q.lines, 'LT', string.format('%.0f', at), line) end
  call('HSET', q.limits, 'lines', 1)
  q.has_lines = true
end

-- Lets a message wait for a limit. Other queues may have lines of the same limit: it knows them all.
local function wait_for_limit(q, m, name, key, us)
  add_to_line(q, name .. '\0' .. key, m, math.ceil(us / 1000))
  call('ZADD', flow_key(q, 'waiting', name), 0, length_prefixed(key) .. '\1' .. q.prefix)
end

-- The line in a member of `limited`.
local function line_of(member) return string.sub(member, 2, 1 + string.byte(member)) end

local function leave_line(q, id)
  local member = q.has_lines and call('HGET', q.limited_in, id)
  if not member then return end
  call('HDEL', q.limited_in, id)
  call('ZREM', q.limited, member)
end

-- Gives a message that waits in a line the position of its new score.
local function move_in_line(q, m)
  local member = q.has_lines and call('HGET', q.limited_in, m.id)
  if not member then return end
  leave_line(q, m.id)
  add_to_line(q, line_of(member), m, false)
end

-- Lets up to `most` messages of a line go on. Returns whether others wait in it.
local function open_line(q, line, most)
  local members = members_with(length_prefixed(line), q.limited, most)
  for _, member in ipairs(members) do
    local id = id_of_member(member)
    local m = load(q, id)
    call('ZREM', q.limited, member)
    call('HDEL', q.limited_in, id)
    call('ZADD', q.ready, m and ready_score(q, m) or 0, id) -- the fetch deals with a record that cannot be read
  end
  if #members > 0 then
    wake_consumer(q)
    extend_expiry(q)
  end
  if #members == most and #members_with(length_prefixed(line), q.limited, 1) > 0 then return true end
  call('ZREM', q.lines, line)
  return false
end

-- Opens the lines of a limit in every queue for so many points, because these are free now.
local function open_lines_of(q, name, key, points)
  local waiting, prefix = flow_key(q, 'waiting', name), length_prefixed(key) .. '\1'
  for _, member in ipairs(call('ZRANGEBYLEX', waiting, '[' .. prefix, '(' .. length_prefixed(key) .. '\2')) do
    local other = string.sub(member, #prefix + 1)
    local readable, others = pcall(names, other)
    if not readable or not open_line(others, name .. '\0' .. key, points) then call('ZREM', waiting, member) end
  end
end

-- How many points of a limit are free for a key now (false: none), and when more are (ms). Those that no lease holds are given back: the
-- queue of their messages was deleted, or somebody has damaged it.
local function free_points(q, name, key, us)
  local config, free = config_of(q, name), BATCH
  local again = us + LOOK_AGAIN_MS * 1000
  local opens = opens_at(q, name, key, 1, us)
  if config.most then
    local running, prefix = flow_key(q, 'running', name), length_prefixed(key) .. '\1'
    if opens then
      for _, member in ipairs(call('ZRANGEBYLEX', running, '[' .. prefix, '(' .. length_prefixed(key) .. '\2',
          'LIMIT', 0, BATCH)) do
        local holder, id = string.match(string.sub(member, #prefix + 1, -2), '^(.-)%z(.*)$')
        if not holder or not call('ZSCORE', holder .. ':leased', id) then call('ZREM', running, member) end
      end
      opens = opens_at(q, name, key, 1, us)
    end
    free = config.most - running_with(q, name, key)
  end
  if opens then return false, math.ceil(opens / 1000) end
  if config.interval then
    local till = used_until(q, name, key, us)
    free = math.min(free, math.floor((us + config.burst * config.interval - till) / config.interval))
    again = math.min(again, us + config.interval)
  end
  return math.max(free, 1), math.ceil(again / 1000)
end

-- Gives back what a message occupied while it was leased.
local function free_slots(q, id)
  local value = q.has_slots and call('HGET', q.slots, id)
  if not value then return end
  call('HDEL', q.slots, id)
  local readable, slots = pcall(cmsgpack.unpack, value)
  for _, slot in ipairs(readable and slots or {}) do
    local name, key, points = unpack(slot)
    for point = 1, points do call('ZREM', flow_key(q, 'running', name), running_member(q, key, id, point)) end
    open_lines_of(q, name, key, points)
  end
end
