-- Dependents: consequences of a job's end, or its retry, for the jobs that wait for it.
--
-- `un` has the jobs whose dependents are to be told, `ua` the last child told. Both are worked off
-- in batches. `dp:<child>` has, by parent, the condition and whether it is met.

local CONDITIONS = {s = 'succeeded', e = 'ended', f = 'failed', o = 'one_succeeded'}

local function met_by(condition, status)
  if condition == 'e' then return FINISHED[status] or false end
  return status == (condition == 'f' and 'failed' or 'completed')
end

local function excluded_by(condition, status)
  return FINISHED[status] and not met_by(condition, status) or false
end

local function impossible_because(parent, status, condition)
  if condition == 'f' then
    return 'parent ' .. parent .. ' ' .. status .. ', and this was to run if it failed'
  end
  local text = 'parent ' .. parent .. ' ' .. (status == 'cancelled' and 'was cancelled' or status)
  if condition == 'o' then text = text .. ', and no other one of which one was to succeed did' end
  return text
end

-- Return {id, condition, met} of each parent, by id.
local function parents_of(child)
  local found, parents = call('HGETALL', P .. 'dp:' .. child), {}
  for place = 1, #found, 2 do
    local condition, met = string.match(found[place + 1], '^(.)(.)$')
    parents[#parents + 1] = {id = found[place], condition = condition, met = met == '1'}
  end
  table.sort(parents, function(a, b) return tonumber(a.id) < tonumber(b.id) end)
  return parents
end

-- Return whether one of several parents has succeeded, or still may.
local function may_be_met(parents)
  for _, parent in ipairs(parents) do
    if parent.condition == 'o' then
      local status = call('HGET', P .. 'j:' .. parent.id, 's')
      if parent.met or status and not excluded_by('o', status) then return true end
    end
  end
  return false
end

-- Return id, status and condition of a parent that has ended so that the child can never run.
local function excluding_parent(child)
  local parents = parents_of(child)
  local possible = may_be_met(parents)
  for _, parent in ipairs(parents) do
    if not parent.met and not (possible and parent.condition == 'o') then
      local status = call('HGET', P .. 'j:' .. parent.id, 's')
      -- A deleted parent had ended, and had not met the condition before it was deleted.
      if not status then return parent.id, 'cancelled', parent.condition end
      if excluded_by(parent.condition, status) then return parent.id, status, parent.condition end
    end
  end
end

local function unsettle(ids)
  for _, id in ipairs(ids) do
    if call('EXISTS', P .. 'dc:' .. id) == 1 then
      write('ZADD', P .. 'un', id, id)
      write('HDEL', P .. 'ua', id)
    end
  end
end

local function exclude(child, parent, status, condition, at)
  if child.status ~= 'blocked' then return end
  move(child, 'cancelled', at)
  write('HSET', child.key, 'cb', parent, 'rs', impossible_because(parent, status, condition))
  unsettle({child.id})
end

-- Block a child again that was cancelled because of its parent, unless something else prevents it.
local function revive(child, parent, at)
  if child.status ~= 'cancelled' or call('HGET', child.key, 'cb') ~= parent then return end
  local holder = key_holder(child.unique)
  if holder then
    write('HSET', child.key, 'rs', 'job ' .. holder .. ' has its unique key')
    write('HDEL', child.key, 'cb')
    return
  end
  write('HDEL', child.key, 'fa', 'cb', 'rs')
  move(child, 'blocked', at)
  local other, status, condition = excluding_parent(child.id)
  if other then
    exclude(child, other, status, condition, at)
  else
    unsettle({child.id})
  end
end

-- Count parents of a child as met; release it if these were the last ones.
local function meet(child, parents, condition, at)
  for _, parent in ipairs(parents) do
    write('HSET', P .. 'dp:' .. child.id, parent, condition .. '1')
  end
  write('HINCRBY', child.key, 'um', -#parents)
  child.unmet = child.unmet - #parents
  if child.status == 'blocked' and child.unmet == 0 then
    local waits = child.run_at and tonumber(child.run_at) > at
    move(child, waits and 'scheduled' or 'pending', at)
  end
end

-- Tell a child of a parent of which, or of others, one has to succeed; return 1 if that is met.
local function tell_one_of_several(child, parent, status, at)
  local excluded = excluded_by('o', status)
  local parents = parents_of(child.id)
  if not excluded and child.status == 'cancelled' then
    local cause = call('HGET', child.key, 'cb')
    for _, other in ipairs(parents) do
      if other.condition == 'o' and other.id == cause then
        revive(child, cause, at)
        break
      end
    end
  end
  if excluded and not may_be_met(parents) then exclude(child, parent, status, 'o', at) end
  if not met_by('o', status) then return 0 end
  local unmet = {}
  for _, other in ipairs(parents) do
    if other.condition == 'o' and not other.met then unmet[#unmet + 1] = other.id end
  end
  if #unmet == 0 then return 0 end
  meet(child, unmet, 'o', at)
  return 1
end

local function settle_one(parent, status, limit, at)
  local after = call('HGET', P .. 'ua', parent) or '0'
  local children = call(
    'ZRANGEBYSCORE', P .. 'dc:' .. parent, '(' .. after, '+inf', 'LIMIT', 0, limit)
  local freed = 0
  for _, id in ipairs(children) do
    local child = load(id)
    local condition, met = string.match(call('HGET', P .. 'dp:' .. id, parent), '^(.)(.)$')
    local excluded = excluded_by(condition, status)
    -- Even if the parent has ended again, which may be before all children were revived.
    if condition ~= 'o' and not excluded then revive(child, parent, at) end
    if condition == 'o' then
      freed = freed + tell_one_of_several(child, parent, status, at)
    elseif met_by(condition, status) then
      if met == '0' then
        meet(child, {parent}, condition, at)
        freed = freed + 1
      end
    elseif excluded then
      exclude(child, parent, status, condition, at)
    end
  end
  if #children < limit then
    write('ZREM', P .. 'un', parent)
    write('HDEL', P .. 'ua', parent)
  else
    write('HSET', P .. 'ua', parent, children[#children])
  end
  return #children, freed
end

-- Tell up to `limit` dependents; return how many were released, and whether more are left.
local function settle(at, limit)
  local freed = 0
  while limit > 0 do
    local parent = call('ZRANGE', P .. 'un', 0, 0)[1]
    if not parent then break end
    local status = call('HGET', P .. 'j:' .. parent, 's')
    local told, more = settle_one(parent, status, limit, at)
    freed = freed + more
    limit = limit - math.max(told, 1)
  end
  return freed, call('ZCARD', P .. 'un') > 0
end

-- Settle the first batch of dependents of these jobs.
local function settle_for(ids, at)
  if #ids == 0 then return 0 end
  unsettle(ids)
  return (settle(at, 500))
end

function verbs.settle(a)
  local freed, more = settle(clock(a.now), a.limit)
  if freed > 0 then woken = true end
  return more and 1 or 0
end
