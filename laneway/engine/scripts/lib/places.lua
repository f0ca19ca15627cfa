-- Where messages stand in sorted sets.

local function length_prefixed(text) return string.char(#text) .. text end

local function members_with(prefix, key, limit)
  return call('ZRANGEBYLEX', key, '[' .. prefix, '(' .. prefix .. '\2', 'LIMIT', 0, limit)
end

-- The id in a member of `held` or `tasks`: length byte, text, order byte, 8 bytes sequence, id.
local function id_of_member(member)
  return string.sub(member, string.byte(member) + 11)
end

-- The score of a message in `ready`: that of its record, or with the rank that its tenant or its deadline gives it.
local function ready_score(q, m)
  local rank = q.has_ranks and tonumber(call('HGET', q.ranks, m.id) or nil)
  return rank and m.score - m.score % SPAN + rank or m.score
end
