-- Schedules. The zset of its ticks lets a schedule fire only once for each.

local function record(name, s)
  local key = P .. 'sc:' .. name
  put(key, 'd', s.d, 'su', s.settled_until, 'na', s.next_at, 'pa', s.paused and 1,
    'la', s.last_at, 'lj', s.last_job_id)
end

local function is_current(a)
  local f = call('HMGET', P .. 'sc:' .. a.name, 'id', 'rev')
  return f[1] == a.id and f[2] == a.revision
end

local function replace(a)
  record(a.name, a.after)
  write('HINCRBY', P .. 'sc:' .. a.name, 'rev', 1)
end

-- Forget old firings. Their times are settled: the schedule never fires for them again.
local function forget(name, id, before, shown_ones)
  local kept = {}
  for _, at in ipairs(call('ZREVRANGE', P .. 'st:' .. id, 0, shown_ones - 1)) do kept[at] = true end
  local last
  for _, at in ipairs(call('ZRANGEBYSCORE', P .. 'st:' .. id, '-inf', '(' .. before)) do
    if not kept[at] then
      write('ZREM', P .. 'st:' .. id, at)
      write('HDEL', P .. 'sj:' .. id, at)
      last = at
    end
  end
  local settled = call('HGET', P .. 'sc:' .. name, 'su')
  if last and tonumber(last) > tonumber(settled) then
    write('HSET', P .. 'sc:' .. name, 'su', last)
  end
end

function verbs.add_schedule(a)
  if call('SISMEMBER', P .. 'sn', a.name) == 1 then return nil, {'schedule there', a.name} end
  woken = true
  write('SADD', P .. 'sn', a.name)
  record(a.name, a.after)
  write('HSET', P .. 'sc:' .. a.name, 'id', write('HINCRBY', META, 'sid', 1), 'rev', 1)
  return 1
end

function verbs.schedules()
  local found = {}
  for place, name in ipairs(call('SMEMBERS', P .. 'sn')) do
    found[place] = {name, call('HGETALL', P .. 'sc:' .. name)}
  end
  return found
end

function verbs.replace_schedule(a)
  woken = true
  if not is_current(a) then return 0 end
  replace(a)
  return 1
end

function verbs.remove_schedule(a)
  local id = call('HGET', P .. 'sc:' .. a.name, 'id')
  if not id then return 0 end
  write('SREM', P .. 'sn', a.name)
  for _, key in ipairs({'sc:' .. a.name, 'st:' .. id, 'sj:' .. id}) do write('DEL', P .. key) end
  return 1
end

function verbs.fire(a)
  if not is_current(a) then return false end
  local at, fired = clock(a.now), {}
  local failure = missing_queue({a.job})  -- before any write
  if failure then return nil, failure end
  replace(a)
  for _, tick in ipairs(a.ticks) do
    if not call('ZSCORE', P .. 'st:' .. a.id, tick) then
      local added, wrong = insert({a.job}, at)
      if wrong then return nil, wrong end
      write('ZADD', P .. 'st:' .. a.id, tick, tick)
      write('HSET', P .. 'sj:' .. a.id, tick, added[1][1] .. '|' .. added[1][2])
      fired[#fired + 1] = {tick, added[1][1], added[1][2]}
    end
  end
  if #fired > 0 then
    write('HSET', P .. 'sc:' .. a.name, 'la', fired[#fired][1], 'lj', fired[#fired][2])
    forget(a.name, a.id, whole(tonumber(fired[1][1]) - a.remembered), a.shown)
  end
  woken = true
  return fired
end

function verbs.firings(a)
  local id = call('HGET', P .. 'sc:' .. a.name, 'id')
  local found = {}
  if not id then return found end
  for place, tick in ipairs(call('ZREVRANGE', P .. 'st:' .. id, 0, a.limit - 1)) do
    found[place] = {tick, call('HGET', P .. 'sj:' .. id, tick)}
  end
  return found
end
