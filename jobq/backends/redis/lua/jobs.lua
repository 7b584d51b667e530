-- Jobs: the hash of each, and the indexes of its status.
--
-- A pending job is in a line, identified by priority, queue and type: in the line's zset, which has
-- the order, and, from its insertion until its attempt ends, in the line's stream. A job that
-- becomes pending again can't go into the middle of a stream: it gets an entry in the stream
-- `again` when it is claimed. The field `e` tells where its entry is: absent, in the stream of its line, as
-- `<id>-0`; `-`, nowhere yet; anything else, in `again`, under that id.

local AGAIN, DEAD = P .. 'again', P .. 'dead'

local function load(id)
  local f = call('HMGET', P .. 'j:' .. id, 's', 'h', 'n', 'u', 'e', 'cr', 'um', 'ra', 'np', 'o', 'de',
    'sa', 'si')
  if not f[1] then return nil end
  local priority, queue, created, kind = string.match(f[2], '^(%d)|([^|]*)|(%d+)|(.*)$')
  return {
    id = id, key = P .. 'j:' .. id, status = f[1], queue = queue, priority = priority,
    created = created, kind = kind, line = priority .. '|' .. queue .. '|' .. kind,
    attempts = tonumber(f[3] or 0), unique = f[4], entry = f[5], asked = f[6],
    unmet = tonumber(f[7] or 0), run_at = f[8], parents = tonumber(f[9] or 0), owner = f[10],
    dead = f[11], started = f[12], signature = f[13],
  }
end

-- Changes of the counts are collected, and written once at the end of a verb.
local counted = {}

local function count(queue, status, by)
  local field = queue .. '|' .. status
  counted[field] = (counted[field] or 0) + by
end

local function number_of(queue, status)
  local field = queue .. '|' .. status
  return tonumber(call('HGET', P .. 'n', field) or 0) + (counted[field] or 0)
end

local function write_counts()
  for field, by in pairs(counted) do
    if by ~= 0 then write('HINCRBY', P .. 'n', field, by) end
  end
  counted = {}
end

local function tell(counter, by)
  write('HINCRBY', META, counter, by)
end

local function key_holder(unique)
  return unique and call('HGET', P .. 'uk', unique) or nil
end

local known_lines = {}

local function into_line(job)
  write('ZADD', P .. 'p:' .. job.line, job.id, job.id)
  if not known_lines[job.line] and write('SADD', P .. 'ln', job.line) == 1 then
    stream('XGROUP', 'CREATE', P .. 'w:' .. job.line, GROUP, '0', 'MKSTREAM')
  end
  known_lines[job.line] = true
  if stream('XADD', P .. 'w:' .. job.line, job.id .. '-0', 'j', '') then
    if job.entry then write('HDEL', job.key, 'e') end
    job.entry = false
  else
    write('HSET', job.key, 'e', '-')
    job.entry = '-'
  end
end

-- Delete the entry of a job from its stream, and from the pending list of its owner.
local function drop_entry(job)
  local where, entry = P .. 'w:' .. job.line, job.id .. '-0'
  if job.entry then where, entry = AGAIN, job.entry end
  if job.entry == '-' then return end
  stream('XACK', where, GROUP, entry)
  stream('XDEL', where, entry)
end

-- Add a failed job to those of its signature, and take it out again.
local function group(job, at)
  if not job.signature then return end
  write('ZADD', P .. 'sg:' .. job.signature, at, job.id)
  write('HINCRBY', P .. 'sz', job.signature, 1)
end

local function ungroup(job)
  if not job.signature or write('ZREM', P .. 'sg:' .. job.signature, job.id) == 0 then return end
  if write('HINCRBY', P .. 'sz', job.signature, -1) < 1 then write('HDEL', P .. 'sz', job.signature) end
end

local function leave(job)
  local status = job.status
  count(job.queue, status, -1)
  if status == 'pending' then
    write('ZREM', P .. 'p:' .. job.line, job.id)
    return
  end
  write('ZREM', P .. 'i:' .. status, job.id)
  if status == 'scheduled' or status == 'retrying' then
    write('ZREM', P .. 'due', job.id)
  elseif FINISHED[status] then
    write('ZREM', P .. 'fin', job.id)
    if status == 'failed' then ungroup(job) end
    if job.dead then
      stream('XDEL', DEAD, job.dead)
      write('HDEL', job.key, 'de')
    end
  end
end

-- Add a job with a hash to the indexes of a status. Its run_at must be set before.
local function enter(job, status, at)
  count(job.queue, status, 1)
  if job.status ~= status then write('HSET', job.key, 's', status) end
  job.status = status
  if status == 'pending' then
    into_line(job)
    return
  end
  write('ZADD', P .. 'i:' .. status, job.id, job.id)
  if status == 'scheduled' or status == 'retrying' then
    write('ZADD', P .. 'due', job.run_at, job.id)
  elseif FINISHED[status] then
    write('ZADD', P .. 'fin', at, job.id)
    write('HSET', job.key, 'fa', whole(at))
    if status == 'completed' or status == 'failed' then tell(status, 1) end
    if status == 'failed' then
      group(job, at)
      local entry = stream('XADD', DEAD, '*', 'j', job.id)
      if entry then write('HSET', job.key, 'de', entry) end
    end
  end
end

-- Change a job's status, and take or free its unique key.
local function move(job, status, at)
  if job.status == 'pending' and status ~= 'running' then drop_entry(job) end
  leave(job)
  if job.unique and FINISHED[status] then
    write('HDEL', P .. 'uk', job.unique)
  elseif job.unique then
    write('HSET', P .. 'uk', job.unique, job.id)
  end
  enter(job, status, at)
end

-- Make due jobs pending, the longest due first: one batch, so that other clients hardly wait.
local function promote(at)
  local due = call('ZRANGEBYSCORE', P .. 'due', '-inf', at, 'LIMIT', 0, 200)
  for _, id in ipairs(due) do
    move(load(id), 'pending', at)
  end
end

-- Return a job's id, hash and parents.
local function shown(id)
  local fields = call('HGETALL', P .. 'j:' .. id)
  if #fields == 0 then return nil end
  return {id, fields, call('HGETALL', P .. 'dp:' .. id)}
end
