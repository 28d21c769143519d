#!lua
-- Makes a set have some members and no others.
-- KEYS: the set. ARGV: how long it lives, in seconds; the members.

local wanted = {}
for index = 2, #ARGV do
  wanted[ARGV[index]] = true
  redis.call('SADD', KEYS[1], ARGV[index])
end
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not wanted[member] then
    redis.call('SREM', KEYS[1], member)
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {}
