-- Adds what the reader of a journal has counted in a part of it. Nothing is added unless the part follows on what was
-- counted before: so each event is counted once, however often a reader begins again.
-- KEYS   1: the queue
-- ARGV   1: cursor after which the part begins  2: cursor of its end  3: the most labels  4: the label of what exceeds
--        them  then label, counter, amount, ...; a label after '\1' counts only if the queue has it already
-- Returns the cursor up to which events were counted before; the part was added if that is ARGV[1]
-- uses: base
local q = names(KEYS[1])
work_on_full_server(q)
local key, folded = q.event_counts, {}
if call('TYPE', key).ok ~= 'hash' then call('DEL', key) end -- somebody has damaged it
local counted = call('HGET', key, 'counted')
if counted and counted ~= ARGV[1] and string.match(counted, '^%d+%-%d+$') then return counted end

local function add(field, amount)
  local sum = redis.pcall('HINCRBY', key, field, amount)
  if type(sum) == 'number' then return sum end
  call('HSET', key, field, amount) -- somebody has written there what is no number
  return tonumber(amount)
end

-- The label, or that of ARGV[4] if the queue has as many labels as it may have.
local function label_of(name)
  if folded[name] then return folded[name] end
  local known = string.match(name, '^\1(.*)$')
  folded[name] = known and (call('HEXISTS', key, 'label\0' .. known) == 1 and known or ARGV[4]) or name
  if known then return folded[name] end
  if name ~= ARGV[4] and call('HSETNX', key, 'label\0' .. name, '1') == 1 and add('labels', 1) > tonumber(ARGV[3]) then
    call('HDEL', key, 'label\0' .. name)
    add('labels', -1)
    folded[name] = ARGV[4]
  end
  return folded[name]
end

for index = 5, #ARGV, 3 do add(ARGV[index + 1] .. '\0' .. label_of(ARGV[index]), ARGV[index + 2]) end
call('HSET', key, 'counted', ARGV[2])
extend_expiry(q)
return ARGV[1]
