#!lua
-- Takes timers of one partition that are due, for nobody to get them again before a time.
-- KEYS: entries, timers. ARGV: now, until, limit.
-- Returns when the next one is to be looked at (or `-`), and then name, version, text, and so on.

local entries, timers = unpack(KEYS)
local now, till, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local head = redis.call('HGET', entries, '')
local taken = {}
if head then
  local epoch = string.match(head, '^(%S+) ')
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, limit)) do
    local entry = redis.call('HGET', entries, name)
    if entry then
      local written, text = string.match(entry, '^(%S+) %S+\n(.*)$')
      taken[#taken + 1] = name
      taken[#taken + 1] = epoch .. ' ' .. written
      taken[#taken + 1] = text
      redis.call('ZADD', timers, till, name)
    else
      redis.call('ZREM', timers, name)
    end
  end
end
local first = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
table.insert(taken, 1, first[2] and string.format('%.0f', first[2]) or '-')
return taken
