-- What limits, labels and tenants do in a fetch, whose locals these functions use.
local LABEL_WAKEUP_MS = 60000 -- longer than any consumer waits before it fetches unasked

-- True when the consumer has all labels of a line, which are between commas, too.
local function has_labels(needed)
  for label in string.gmatch(needed, '[^,]+') do
    if not string.find(labels, ',' .. label .. ',', 1, true) then return false end
  end
  return true
end

-- Wakes a consumer with each of these labels. One without them would find nothing.
local function wake_labelled(q, needed)
  for label in string.gmatch(needed, '[^,]+') do
    local key = q.wakeup .. ':' .. label
    call('ZADD', key, 0, '1')
    call('PEXPIRE', key, LABEL_WAKEUP_MS)
  end
end

-- Lets messages go on that wait for labels which this consumer has, or for a limit which may have room now.
local function open_lines(q, limits)
  if labels ~= '' then
    for _, line in ipairs(call('SMEMBERS', q.label_lines)) do
      local needed = string.sub(line, 2)
      if has_labels(needed) then
        if open_line(q, line, room) then wake_labelled(q, needed) else call('SREM', q.label_lines, line) end
      end
    end
  end
  for _, line in ipairs(call('ZRANGEBYSCORE', q.lines, '-inf', now, 'LIMIT', 0, MOST_LINES)) do
    local name, key = string.match(line, '^(.-)%z(.*)$')
    local free, again = free_points(q, name or '', key or '', us)
    if not free or open_line(q, line, math.min(free, room)) then
      call('ZADD', q.lines, 'XX', string.format('%.0f', math.max(again, now + 1)), line)
    end
  end
  if call('EXISTS', q.lines, q.label_lines) == 0 then
    call('HDEL', q.limits, 'lines')
    limits.lines = false
  end
  limits.line_due = lowest_score(q.lines)
end

-- Lets a message wait whose limits are used up, or that needs labels which the consumer lacks, and returns true. Else
-- takes the points of its limits, and returns false and whether it occupies some while it is leased.
local function must_wait(q, limits, m, record)
  local needed = flow_of(m).n
  if type(needed) == 'string' and needed ~= '' and #needed < 250 and not has_labels(needed) then
    local line = '\1' .. needed
    call('SADD', q.label_lines, line)
    add_to_line(q, line, m, false)
    wake_labelled(q, needed)
    return true
  end
  local name = limits.task_limits and string.sub(record, m.name_at + 1, m.name_at + string.byte(record, m.name_at))
  local uses = uses_of(m, name or '', limits.task_limits)
  for _, use in ipairs(uses) do
    local opens = opens_at(q, use[1], use[2], use[3], us)
    if opens then
      wait_for_limit(q, m, use[1], use[2], opens)
      limits.line_due = math.min(limits.line_due or math.huge, math.ceil(opens / 1000))
      return true
    end
  end
  return false, take_points(q, m.id, uses, us)
end

-- From now on, what the tenants of this priority put comes after what is delivered now.
local function move_tenant_clock(q, m)
  local rank = ready_score(q, m)
  call('ZADD', q.tenants, 'XX', 'GT', string.format('%.0f', rank), tenant_clock(m.priority))
end

-- Whether a message that is ready is leased now, and whether it occupies limits while it is. Else it waits from now on.
local function admit(q, limits, m, record)
  local waits, holds = false, false
  if m.flow or limits.task_limits then waits, holds = must_wait(q, limits, m, record) end
  if waits then return false end
  if limits.tenants then move_tenant_clock(q, m) end
  return true, holds
end
