-- Filling a store from another one. Until it ends, the version in `meta` is `filling`, and all
-- requests but those of the filling process are refused.

local MAX_SILENCE_US = 60000000  -- a supervisor without a heartbeat for longer is not alive

local function in_use()
  local counts = call('HVALS', P .. 'n')
  for _, number in ipairs(counts) do
    if tonumber(number) > 0 then return 'jobs' end
  end
  if call('SCARD', P .. 'sn') > 0 then return 'jobs' end
  local time = call('TIME')
  local since = tonumber(time[1]) * 1000000 + tonumber(time[2]) - MAX_SILENCE_US
  local heartbeats = call('HGETALL', P .. 'hb')
  for place = 2, #heartbeats, 2 do
    if tonumber(heartbeats[place]) > since then return heartbeats[place - 1] end
  end
end

-- Return the id up to which the store is filled; -1: its old keys are still to be deleted.
function verbs.begin_filling(a)
  local f = call('HMGET', META, 'v', 'fs', 'fi')
  local begun, source, filled = f[1] == 'filling', f[2], f[3]
  if not begun then
    local user = in_use()
    if user then return nil, {'in use', user} end
  end
  if not begun or a.restart then
    source, filled = a.source, '-1'
    write('HSET', META, 'v', 'filling', 'fs', source, 'fi', filled)
  end
  if source ~= a.source then return nil, {'filled from', source} end
  return filled
end

function verbs.cleared()
  write('HDEL', META, 'id', 'sid', 'added', 'completed', 'failed', 'recovered')
  write('HSET', META, 'fi', 0)
  return 1
end

local function load_pairs(key, flat)
  for place = 1, #flat, 2 do write('HSET', key, flat[place], flat[place + 1]) end
end

local function load_job(a)
  local id = a.id
  load_pairs(P .. 'j:' .. id, a.fields)
  load_pairs(P .. 'a:' .. id, a.attempts)
  load_pairs(P .. 'dp:' .. id, a.parents)
  for place = 1, #a.parents, 2 do write('ZADD', P .. 'dc:' .. a.parents[place], id, id) end
  for _, key in ipairs(a.keys) do
    write('HSET', P .. 'ik', key[1], id .. '|' .. key[2])
    write('SADD', P .. 'kj:' .. id, key[1])
  end
  if a.unique and not FINISHED[a.status] then write('HSET', P .. 'uk', a.unique, id) end
  if a.unsettled then write('ZADD', P .. 'un', id, id) end
  local job = {
    id = id, key = P .. 'j:' .. id, queue = a.queue, entry = false, run_at = a.run_at,
    signature = a.signature,
    line = a.priority .. '|' .. a.queue .. '|' .. a.type,
  }
  enter(job, a.status, a.finished_at and tonumber(a.finished_at))
  tell('added', 1)
end

function verbs.load(a)
  local filled = tonumber(call('HGET', META, 'fi'))
  for _, job in ipairs(a.jobs) do
    if tonumber(job.id) > filled then
      load_job(job)
      write('HSET', META, 'fi', job.id)
    end
  end
  return 1
end

function verbs.load_setup(a)
  write('HSET', META, 'id', a.last_job_id, 'sid', a.last_schedule_id)
  write('HSET', META, 'born', a.store[1], 'marked_after', a.store[2])
  write('DEL', P .. 'qs')
  load_pairs(P .. 'qs', a.queues)
  for place, start in ipairs(a.starts) do
    write('ZADD', P .. 'rt:' .. start[1], start[2], 'moved:' .. place)
  end
  for _, s in ipairs(a.schedules) do
    write('SADD', P .. 'sn', s.name)
    record(s.name, s.after)
    write('HSET', P .. 'sc:' .. s.name, 'id', s.id, 'rev', s.revision)
    for _, fired in ipairs(s.fired) do
      write('ZADD', P .. 'st:' .. s.id, fired[1], fired[1])
      write('HSET', P .. 'sj:' .. s.id, fired[1], fired[2])
    end
  end
  return 1
end

-- Return the identity, the last ids given, and the starts that count against the rates of queues.
function verbs.setup(a)
  local starts = {}
  for _, name in ipairs(a.queues) do
    local found = call('ZRANGE', P .. 'rt:' .. name, 0, -1, 'WITHSCORES')
    for place = 2, #found, 2 do
      starts[#starts + 1] = {name, whole(tonumber(found[place]))}
    end
  end
  local f = call('HMGET', META, 'born', 'marked_after', 'id', 'sid')
  return {{f[1] or '', f[2] or f[3] or '0'}, f[3] or '0', f[4] or '0', starts}
end

function verbs.end_filling(a)
  write('HDEL', META, 'fs', 'fi')
  write('HSET', META, 'v', a.version)
  return 1
end
