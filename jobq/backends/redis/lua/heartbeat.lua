-- Running attempts: their processes, progress and leases.

local function note_starts(starts)
  for _, s in ipairs(starts) do
    if running(s.key) then
      write('HSET', P .. 'a:' .. s.key[1], whole(s.key[2]) .. 's', s.record)
    end
  end
end

local function note_progress(key, progress)
  local job = running(key)
  if not job then return 0 end
  write('HSET', job.key, 'pg', progress)
  return 1
end

local function held_by(owner)
  local held = {}
  for _, id in ipairs(call('SMEMBERS', P .. 'o:' .. owner)) do
    local f = call('HMGET', P .. 'j:' .. id, 'n', 'sa', 'cr')
    held[#held + 1] = {id, f[1], f[2], f[3] and 1 or 0}
  end
  return held
end

function verbs.started(a)
  note_starts(a.starts)
  return 1
end

function verbs.progress(a)
  return note_progress(a.key, a.progress)
end

function verbs.cancel_requests(a)
  return held_by(a.owner)
end

function verbs.heartbeat(a)
  local at = clock(a.now)
  if call('HEXISTS', P .. 'sv', a.owner) == 1 then
    write('HSET', P .. 'hb', a.owner, whole(at))
  end
  local held = held_by(a.owner)
  for _, each in ipairs(held) do write('ZADD', P .. 'ls', at + a.lease, each[1]) end
  return held
end
