-- The exchange: a supervisor's report, and the claims that it gets in return.

-- Give back an attempt, running → pending, as if never claimed; its number is used again.
local function unclaim(key, owner, at)
  local id, attempt, job = key[1], key[2], running(key)
  if not job or job.owner ~= owner then return end
  local earlier = call('HGET', P .. 'a:' .. id, whole(attempt - 1))
  release(job)
  write('HDEL', P .. 'a:' .. id, whole(attempt), whole(attempt) .. 's')
  write('ZREM', P .. 'rt:' .. job.queue, id .. ':' .. whole(attempt))
  put(job.key, 'e', nil, 'o', nil, 'cr', nil, 'n', attempt > 1 and whole(attempt - 1),
    'sa', earlier and string.match(earlier, '^%d+'))
  move(job, job.asked and 'cancelled' or 'pending', at)
  woken = true
  if job.asked then settle_for({id}, at) end
end

local function unclaim_all(claims, at)
  for _, claim in ipairs(claims) do unclaim(claim[1], claim[2], at) end
end

function verbs.unclaim(a)
  unclaim_all(a.claims, clock(a.now))
  return 1
end

function verbs.exchange(a)
  local at = clock(a.now)
  note_starts(a.starts)
  for _, p in ipairs(a.progress) do note_progress(p[1], p[2]) end
  local ended = end_all(a.endings, a.now, at)
  unclaim_all(a.unstarted, at)
  local claims = a.request and claim(a.request, at) or {}
  local queues = open_queues()
  offer_places(queues)
  return {ended, claims, next_due(at, queues)}
end
