-- Reads the limits of a message that waits for one of them.
-- KEYS   1: the queue
-- ARGV   1: the message  2: most holders per limit
-- Returns an empty list when the message does not wait for a limit, else per limit of the message, first the one in whose
--        line it waits: now (us), limit, key, points, interval, burst, max_running, when its rate is used up until (us; 0: it is
--        not), until when it is blocked (us; 0: it is not), points that run, messages that go before this one, holders:
--        a list of prefix of the queue, task, end of the lease (ms)
-- uses: base clock record places flow
local us, id, most = clock(), ARGV[1], tonumber(ARGV[2])
local q, limits = names(KEYS[1])
local member, m = call('HGET', q.limited_in, id), load(q, id)
local line = member and line_of(member)
if not line or string.byte(line) == 1 or not m then return {} end
local reply = {}

-- How many messages go before this one: in its own queue those before it, of other queues at most as many, because the
-- queues take turns. Of a limit in whose line it does not wait yet: all.
local function ahead(name, key, waits_here)
  local own, others = 0, {}
  local prefix, waiting = length_prefixed(key) .. '\1', length_prefixed(name .. '\0' .. key)
  for _, each in ipairs(call('ZRANGEBYLEX', flow_key(q, 'waiting', name), '[' .. prefix,
      '(' .. length_prefixed(key) .. '\2', 'LIMIT', 0, BATCH)) do
    local other = string.sub(each, #prefix + 1)
    local till = waits_here and other == q.prefix and member or waiting .. '\2'
    local before = call('ZLEXCOUNT', other .. ':limited', '[' .. waiting, '(' .. till)
    if other == q.prefix then own = before else others[#others + 1] = before end
  end
  local sum = own
  for _, other in ipairs(others) do sum = sum + (waits_here and math.min(other, own) or other) end
  return sum
end

-- Who has points of the limit. Those without a lease are no holders: the next look at the line gives them back.
local function holders(name, key)
  local found, prefix = {}, length_prefixed(key) .. '\1'
  for _, each in ipairs(call('ZRANGEBYLEX', flow_key(q, 'running', name), '[' .. prefix,
      '(' .. length_prefixed(key) .. '\2', 'LIMIT', 0, BATCH)) do
    local holder, other_id = string.match(string.sub(each, #prefix + 1, -2), '^(.-)%z(.*)$')
    if holder and string.byte(each, -1) == 1 and #found < 3 * most then
      local lease_end = call('ZSCORE', holder .. ':leased', other_id)
      local other = lease_end and load(keys_of(holder), other_id)
      if other then
        found[#found + 1], found[#found + 2], found[#found + 3] = holder, other.task, tonumber(lease_end)
      end
    end
  end
  return found
end

local function blocked_until(name, key)
  local till = 0
  for _, blocked in ipairs({ key, '' }) do
    till = math.max(till, tonumber(call('ZSCORE', flow_key(q, 'blocked', name), blocked) or nil) or 0)
  end
  return till > us and till or 0
end

local function add(name, key, points, waits_here)
  local config = config_of(q, name)
  local used = tonumber(call('ZSCORE', flow_key(q, 'used', name), key) or nil) or 0
  local furthest = us + config.burst * (config.interval or 0)
  reply[#reply + 1] = {
    string.format('%.0f', us), name, key, points, config.interval or false, config.burst, config.most or false,
    used > us and string.format('%.0f', math.min(used, furthest)) or '0',
    string.format('%.0f', blocked_until(name, key)), running_with(q, name, key), ahead(name, key, waits_here),
    holders(name, key),
  }
end

local stored = call('HGET', q.messages, id)
local task_name = limits.task_limits and string.sub(stored, m.name_at + 1, m.name_at + string.byte(stored, m.name_at))
local name, key = string.match(line, '^(.-)%z(.*)$')
local others = {}
for _, use in ipairs(uses_of(m, task_name or '', limits.task_limits)) do
  if use[1] == name and use[2] == key and #reply == 0 then add(name, key, use[3], true)
  else others[#others + 1] = use end
end
if #reply == 0 and name then add(name, key, 1, true) end -- the limit of its task name was removed meanwhile
for _, use in ipairs(others) do add(use[1], use[2], use[3], false) end
return reply
