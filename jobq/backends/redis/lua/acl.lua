-- Return the names of the commands that the user may not use, or not with these keys.
--
-- ARGV: each command with its arguments, as JSON. They are tried on a key that is unused otherwise,
-- and of a kind for which commands that would change something are refused.

local key = string.match(KEYS[1], '^(.*)meta$') .. 'rights'

local function refused(command)
  local done = redis.pcall(unpack(command))
  local err = type(done) == 'table' and done.err
  return err and (string.find(err, 'NOPERM', 1, true)
    or string.find(err, 'The user executing the script', 1, true))
end

local missing = {}
for _, text in ipairs(ARGV) do
  -- Without the key, some commands would create it. Others delete it.
  if refused({'SET', key, '', 'PX', 1000}) then return {'SET'} end
  local command = cjson.decode(text)
  if refused(command) then missing[#missing + 1] = command[1] end
end
redis.pcall('DEL', key)
return missing
