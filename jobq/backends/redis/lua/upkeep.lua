-- Queues and supervisors as they are stored, and the upkeep that streams need from time to time.

function verbs.queues()
  return call('HGETALL', P .. 'qs')
end

function verbs.put_queues(a)
  for _, queue in ipairs(a.queues) do write('HSET', P .. 'qs', queue[1], queue[2]) end
  woken = true
  return 1
end

function verbs.delete_queue(a)
  local failure = missing_queue({{queue = a.name}})
  if failure then return nil, failure end
  if a.name == 'default' then return nil, {'default queue', a.name} end
  local jobs, fields = 0, {}
  for _, status in ipairs(a.statuses) do
    jobs = jobs + number_of(a.name, status)
    fields[#fields + 1] = a.name .. '|' .. status
  end
  if jobs > 0 then return nil, {'queue has jobs', a.name, whole(jobs)} end
  write('HDEL', P .. 'n', unpack(fields))
  write('HDEL', P .. 'qs', a.name)
  write('DEL', P .. 'rt:' .. a.name)
  return 1
end

function verbs.register(a)
  write('HSET', P .. 'sv', a.id, a.record)
  write('HSET', P .. 'hb', a.id, whole(clock(a.now)))
  return 1
end

function verbs.unregister(a)
  for _, id in ipairs(a.ids) do
    if call('HEXISTS', P .. 'sv', id) == 1 then write('HDEL', P .. 'sv', id) end
    if call('HEXISTS', P .. 'hb', id) == 1 then write('HDEL', P .. 'hb', id) end
  end
  return 1
end

function verbs.supervisors()
  return {call('HGETALL', P .. 'sv'), call('HGETALL', P .. 'hb')}
end

-- Return the identity of the store, and the last id whose log directory may have no mark.
function verbs.identity()
  local f = call('HMGET', META, 'born', 'marked_after', 'id')
  return {f[1] or '', f[2] or f[3] or '0'}
end

-- Delete the consumers of dead supervisors, but only without pending entries, which would go too.
local function forget_consumers(key)
  local found = redis.pcall('XINFO', 'CONSUMERS', key, GROUP)
  if found.err then return end
  for _, consumer in ipairs(found) do
    local name, pending = consumer[2], consumer[4]
    local there = call('HEXISTS', P .. 'sv', name) == 1
    if pending == 0 and not there then stream('XGROUP', 'DELCONSUMER', key, GROUP, name) end
  end
end

function verbs.maintain()
  if undo then return 1 end
  forget_consumers(AGAIN)
  for _, line in ipairs(call('SMEMBERS', P .. 'ln')) do
    local key = P .. 'w:' .. line
    forget_consumers(key)
    if call('ZCARD', P .. 'p:' .. line) == 0 and call('XLEN', key) == 0 then
      call('SREM', P .. 'ln', line)
      call('DEL', key)
    end
  end
  return 1
end

-- Let jobs that a clock that was ahead has put off wait from now on. The time at which such a wait
-- began is wrong as well, and must not be corrected twice.
function verbs.correct_waits(a)
  local at, corrected = clock(a.now), 0
  for _, id in ipairs(call('ZRANGE', P .. 'due', 0, a.limit - 1)) do
    local job = load(id)
    local number = whole(job.attempts) .. 'e'
    local record = job.attempts > 0 and call('HGET', P .. 'a:' .. id, number)
    local since = tonumber(record and string.match(record, '^%d+') or job.created)
    local wait = tonumber(job.run_at) - since
    if since > at + a.error and (record or wait % 1000 == 0) then
      job.run_at = whole(at + math.max(0, wait))
      write('HSET', job.key, 'ra', job.run_at)
      write('ZADD', P .. 'due', job.run_at, id)
      if tonumber(job.created) > at then
        local head = job.priority .. '|' .. job.queue .. '|' .. whole(at) .. '|' .. job.kind
        write('HSET', job.key, 'h', head)
      end
      if record then
        local rest = string.match(record, '^%d+(.*)$')
        write('HSET', P .. 'a:' .. id, number, whole(at) .. rest)
      end
      corrected = corrected + 1
    end
  end
  woken = woken or corrected > 0
  return corrected
end
