#!lua flags=no-writes
-- Returns partitions whose timers are to be looked at: each with when it was announced last. The
-- first is when the next one is to be looked at (or `-`).
-- KEYS: as in announce.lua. ARGV: now, limit.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, tonumber(ARGV[2]))
local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local found = { later[2] and string.format('%.0f', later[2]) or '-' }
for _, partition in ipairs(due) do
  found[#found + 1] = partition
  found[#found + 1] = redis.call('HGET', KEYS[2], partition) or '0'
end
return found
