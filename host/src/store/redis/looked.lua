#!lua
-- Says when the timers of a partition are to be looked at next, unless one was announced meanwhile.
-- KEYS: as in announce.lua. ARGV: the partition, when it was announced by what was known, the next
-- time, or `-` where it has no timers.
if (redis.call('HGET', KEYS[2], ARGV[1]) or '0') ~= ARGV[2] then
  return 0
end
if ARGV[3] == '-' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1
