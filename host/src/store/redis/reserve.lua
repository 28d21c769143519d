#!lua
-- Reserves a partition for one committer, or gives it up. Who has it already has it for longer.
-- KEYS: reserved. ARGV: who; for how long, in milliseconds, 0 to give it up. Answers whether it is his.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return { '0' }
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return { '1' }
