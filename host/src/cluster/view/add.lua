#!lua
-- Puts a member into a set.
-- KEYS: the set. ARGV: how long it lives, in seconds; the member.

redis.call('SADD', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {}
