#!lua
-- Says that a partition has, or is about to have, a timer that is due at a time.
-- KEYS: partitions with timers, by when they are looked at; when each was announced last.
-- ARGV: the partition, the time, now.
redis.call('ZADD', KEYS[1], 'LT', ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
