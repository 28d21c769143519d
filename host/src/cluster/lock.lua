#!lua
-- Prolongs a lock, or gives it up, if it is still his who says so.
-- KEYS: the lock. ARGV: who; for how long from now, in milliseconds, 0 to give it up. Answers whether it
-- was his.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return { '0' }
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return { '1' }
