-- Runs the verbs of the request: all take effect, or none does.
--
-- The answer is {'ok', result, the time, the store} or {what is wrong, ...}. One that may have been
-- lost on its way is given again to whoever asks again with the same number.

local LOCK, SLOT = P .. 'lock', request.slot and P .. 'r:' .. request.slot

local version, born = unpack(call('HMGET', META, 'v', 'born'))
if version and version ~= request.version then return {'version', version} end
if not version and call('EXISTS', META) == 1 then return {'foreign'} end
-- Numbers begin anew where all was lost: who holds attempts would take those of others for its own.
local held = request.born ~= '' and request.born
if held and held ~= born then return {'replaced'} end

if SLOT then
  local kept = call('GET', SLOT)
  kept = kept and cmsgpack.unpack(kept)
  if kept and kept[1] == request.number then return kept[2] end
  -- Its sender has gone on since: nobody waits for this one, or knows that it is done.
  if kept and kept[1] > request.number then return {'late'} end
end

-- A server that is full takes no jobs in; what it has can still be held up, run, ended and deleted.
-- Redis stops a script only at its first write: so that is one, of nothing, that needs no memory.
local TAKES_IN = {insert = true, fire = true, add_schedule = true, load = true}
local takes_in = false
for _, op in ipairs(request.ops) do takes_in = takes_in or TAKES_IN[op[1]] end
if (request.writes or request.token) and not takes_in then call('DEL', P .. 'full') end

local holder = call('GET', LOCK)
if request.token then
  if holder and holder ~= request.token then return {'locked'} end
  if not holder and request.begun then return {'expired'} end  -- others may have written
  call('SET', LOCK, request.token, 'PX', request.lock_ms)
elseif holder and request.writes then
  return {'locked'}
end

local result, failure
for _, op in ipairs(request.ops) do
  result, failure = verbs[op[1]](op[2])
  write_counts()
  if failure then break end
end

if undo then
  roll_back()
elseif changed then
  if not version then call('HSET', META, 'v', request.version) end
  if not born then
    born = request.slot .. '-' .. whole(request.number)  -- nobody else has asked under these
    call('HSET', META, 'born', born)
  end
  call('HINCRBY', META, 'ver', 1)
end
if request.token and not request.rehearsal then call('DEL', LOCK) end

local answer = failure or {'ok', result or false}
if SLOT then call('SET', SLOT, cmsgpack.pack({request.number, answer}), 'PX', request.kept_ms) end
if woken and changed and not undo then call('PUBLISH', P .. 'wake', '') end
if not failure then
  answer[3] = server_now and whole(server_now) or false
  answer[4] = request.born == '' and born or false
end
return answer
