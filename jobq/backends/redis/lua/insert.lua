-- New jobs. All look-ups come before all writes: an insert that fails adds nothing.

local CODES = {succeeded = 's', ended = 'e', failed = 'f', one_succeeded = 'o'}

-- Return the id of a parent; or nil, its name and the failure.
local function parent_of(batch, ref)
  local id
  if ref.index then
    id = batch.answers[ref.index + 1].id
  elseif ref.key then
    id = batch.known[ref.key] or string.match(call('HGET', P .. 'ik', ref.key) or '', '^(%d+)|')
  elseif ref.id then
    id = ref.id
  end
  if id and batch.statuses[id] == nil then
    batch.statuses[id] = call('HGET', P .. 'j:' .. id, 's')
  end
  if not id or not batch.statuses[id] then
    return nil, {'no parent', ref.key and "'" .. ref.key .. "'" or id or 'given'}
  end
  return id
end

-- Return each parent once: two places in a batch are one job if one has the other's unique key.
local function look_up_parents(batch, job)
  local parents, conditions = {}, {}
  for _, ref in ipairs(job.parents or {}) do
    local id, failure = parent_of(batch, ref)
    if failure then return nil, failure end
    local condition = CODES[ref.condition]
    if conditions[id] and conditions[id] ~= condition then
      return nil, {'two conditions', id}
    end
    if not conditions[id] then
      conditions[id] = condition
      parents[#parents + 1] = {id = id, condition = condition}
    end
  end
  return parents
end

-- Return the job of the new one's import key, or the holder of its unique key.
local function already_there(batch, job)
  if job.key then
    local known = batch.known[job.key]
      or string.match(call('HGET', P .. 'ik', job.key) or '', '^(%d+)|')
    if known then return known end
  end
  local holder = job.unique and (batch.unique[job.unique] or key_holder(job.unique))
  if holder and job.key then
    batch.known[job.key] = holder
    batch.keys[#batch.keys + 1] = {job.key, holder, job.digest}
  end
  return holder
end

-- Return whether one of several parents has succeeded, and whether one has or still may.
local function one_of_several(batch, parents)
  local met, possible = false, false
  for _, parent in ipairs(parents) do
    if parent.condition == 'o' then
      local status = batch.statuses[parent.id]
      met = met or met_by('o', status)
      possible = possible or not excluded_by('o', status)
    end
  end
  return met, possible
end

local function look_up(batch, job, id, at)
  local parents, failure = look_up_parents(batch, job)
  if failure then return failure end
  local new = {given = job, id = id, parents = parents, unmet = 0, status = 'pending'}
  local one_met, one_possible = one_of_several(batch, parents)
  for _, parent in ipairs(parents) do
    local status = batch.statuses[parent.id]
    local is_one = parent.condition == 'o'
    parent.met = is_one and one_met or not is_one and met_by(parent.condition, status)
    if not parent.met then new.unmet = new.unmet + 1 end
    local excludes = excluded_by(parent.condition, status)
    if is_one then excludes = not one_possible end
    if excludes and not new.cancelled_by then
      new.cancelled_by = parent.id
      new.reason = impossible_because(parent.id, status, parent.condition)
    end
  end
  if new.cancelled_by then
    new.status = 'cancelled'
  elseif new.unmet > 0 then
    new.status = 'blocked'
  elseif job.run_at and job.run_at > at then
    new.status = 'scheduled'
  end
  if job.unique and not FINISHED[new.status] then batch.unique[job.unique] = id end
  if job.key then
    batch.known[job.key] = id
    batch.keys[#batch.keys + 1] = {job.key, id, job.digest}
  end
  batch.statuses[id] = new.status
  batch.jobs[#batch.jobs + 1] = new
end

local function write_job(new, at)
  local given, key = new.given, P .. 'j:' .. new.id
  local job = {
    id = new.id, key = key, queue = given.queue, entry = false, status = new.status,
    line = given.priority .. '|' .. given.queue .. '|' .. given.type,
    run_at = given.run_at and whole(given.run_at),
  }
  local fields = {
    's', new.status, 'd', given.d,
    'h', given.priority .. '|' .. given.queue .. '|' .. whole(at) .. '|' .. given.type,
  }
  local function field(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  field('u', given.unique)
  field('ra', job.run_at)
  field('np', #new.parents > 0 and #new.parents)
  field('um', new.unmet > 0 and new.unmet)
  field('cb', new.cancelled_by)
  field('rs', new.reason)
  write('HSET', key, unpack(fields))
  if given.unique and not FINISHED[new.status] then
    write('HSET', P .. 'uk', given.unique, new.id)
  end
  enter(job, new.status, at)
  for _, parent in ipairs(new.parents) do
    write('HSET', P .. 'dp:' .. new.id, parent.id, parent.condition .. (parent.met and '1' or '0'))
    write('ZADD', P .. 'dc:' .. parent.id, new.id, new.id)
  end
end

-- Add jobs; return {id, 1 if it was created} for each, or nil and the failure.
local function insert(jobs, at)
  local failure = missing_queue(jobs)
  if failure then return nil, failure end
  local batch = {answers = {}, jobs = {}, unique = {}, known = {}, keys = {}, statuses = {}}
  local last = tonumber(call('HGET', META, 'id') or 0)
  for place, job in ipairs(jobs) do
    local there = already_there(batch, job)
    if there then
      batch.answers[place] = {id = there, created = 0}
    else
      local id = whole(last + 1)
      failure = look_up(batch, job, id, at)
      if failure then return nil, failure end
      last = last + 1
      batch.answers[place] = {id = id, created = 1}
    end
  end
  for _, new in ipairs(batch.jobs) do write_job(new, at) end
  for _, key in ipairs(batch.keys) do
    write('HSET', P .. 'ik', key[1], key[2] .. '|' .. key[3])
    write('SADD', P .. 'kj:' .. key[2], key[1])
  end
  if #batch.jobs > 0 then
    write('HSET', META, 'id', whole(last))
    tell('added', #batch.jobs)
  end
  local answers = {}
  for place, answer in ipairs(batch.answers) do answers[place] = {answer.id, answer.created} end
  return answers
end

function verbs.insert(a)
  woken = true
  local at = clock(a.now)
  local answers, failure = insert(a.jobs, at)
  if failure then return nil, failure end
  return {server_now and whole(at) or false, answers}
end
