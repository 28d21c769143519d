#!lua flags=no-writes
-- Returns the entries of a range that have not expired: name, version, text, and so on.
-- KEYS: entries, names. ARGV: the time by which expiry is judged, MIN, MAX, LIMIT, BACKWARDS.

local entries, names = unpack(KEYS)
local at, min, max, limit, backwards =
  tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local head = redis.call('HGET', entries, '')
local found = {}
if not head then
  return found
end
local epoch = string.match(head, '^(%S+) ')
local offset = 0
while #found < limit * 3 do
  local page
  if backwards then
    page = redis.call('ZREVRANGEBYLEX', names, max, min, 'LIMIT', offset, limit)
  else
    page = redis.call('ZRANGEBYLEX', names, min, max, 'LIMIT', offset, limit)
  end
  for _, name in ipairs(page) do
    local entry = redis.call('HGET', entries, name)
    local written, expiry, text = string.match(entry, '^(%S+) (%S+)\n(.*)$')
    if #found < limit * 3 and (expiry == '-' or tonumber(expiry) > at) then
      found[#found + 1] = name
      found[#found + 1] = epoch .. ' ' .. written
      found[#found + 1] = text
    end
  end
  if #page < limit then
    break
  end
  offset = offset + #page
end
return found
