#!lua
-- Lets nobody get a timer before a time, unless another one of that name was scheduled since.
-- KEYS: entries, timers. ARGV: name, version, time. Answers whether it did.
local head = redis.call('HGET', KEYS[1], '')
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not head or not entry then
  return 0
end
if string.match(head, '^(%S+) ') .. ' ' .. string.match(entry, '^(%S+) ') ~= ARGV[2] then
  return 0
end
redis.call('ZADD', KEYS[2], 'XX', ARGV[3], ARGV[1])
return 1
