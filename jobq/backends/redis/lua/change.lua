-- Cancelling, retrying and deleting jobs.

local WAITING = {blocked = true, scheduled = true, pending = true, retrying = true}

function verbs.cancel(a)
  local at, effects, stopped = clock(a.now), {}, {}
  for place, id in ipairs(a.ids) do
    local job = load(id)
    if not job then
      effects[place] = 'missing'
    elseif WAITING[job.status] then
      move(job, 'cancelled', at)
      put(job.key, 'rs', a.reason)
      stopped[#stopped + 1] = id
      effects[place] = 'cancelled'
    elseif job.status == 'running' then
      write('HSET', job.key, 'cr', 1)
      if a.reason then write('HSET', job.key, 'rs', a.reason) end
      effects[place] = 'requested'
    else
      effects[place] = 'finished'
    end
  end
  settle_for(stopped, at)
  woken = true
  return effects
end

local function requeue(id, at)
  local job = load(id)
  if not job then return {id, 'missing'} end
  if job.status == 'retrying' then -- its retry is due now
    write('HDEL', job.key, 'ra')
    move(job, 'pending', at)
    return {id, 'pending'}
  end
  if job.status ~= 'failed' and job.status ~= 'cancelled' then return {id, 'refused'} end
  local holder = key_holder(job.unique)
  if holder then return {id, 'key_taken', holder} end
  local parent = excluding_parent(id)
  if parent then return {id, 'impossible', parent} end
  local effect = job.unmet > 0 and 'blocked' or 'pending'
  write('HDEL', job.key, 'f', 'c', 'ra', 'fa', 'cb', 'rs', 'ec', 'sg', 'pg')
  move(job, effect, at)
  return {id, effect}
end

function verbs.requeue(a)
  local at, retried, back = clock(a.now), {}, {}
  for place, id in ipairs(a.ids) do
    retried[place] = requeue(id, at)
    if #retried[place] == 2 and WAITING[retried[place][2]] then back[#back + 1] = id end
  end
  settle_for(back, at)
  woken = true
  return retried
end

local function delete(job)
  local id = job.id
  leave(job)
  for _, parent in ipairs(call('HKEYS', P .. 'dp:' .. id)) do
    write('ZREM', P .. 'dc:' .. parent, id)
  end
  for _, key in ipairs(call('SMEMBERS', P .. 'kj:' .. id)) do write('HDEL', P .. 'ik', key) end
  for _, kind in ipairs({'j:', 'a:', 'dp:', 'kj:', 'lg:'}) do write('DEL', P .. kind .. id) end
end

function verbs.delete(a)
  local deleted = {}
  for _, id in ipairs(a.ids) do
    local job = load(id)
    if job and FINISHED[job.status] and not call('ZSCORE', P .. 'un', id) then
      delete(job)
      deleted[#deleted + 1] = id
    end
  end
  return deleted
end
