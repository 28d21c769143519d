#!lua
-- Commits one transaction in one partition, or refuses it; nothing is written before all is decided.
-- KEYS: entries, names, expiring, timers, commits, outgoing, scratch, reserved (all of one partition's
-- slot).
-- ARGV, one after the other:
--   the commit's id; when it is too late, in milliseconds; whether it was tried before; the time by which expiry is judged; an epoch
--   for a partition that begins; what is to be sent, or nothing; who commits, where it is reserved
--   how many things were seen, and each: `k` NAME VERSION, or `r` MIN MAX LIMIT BACKWARDS COUNT and as
--   many times NAME VERSION
--   how many writes, and each: `s` NAME TEXT EXPIRY, `d` NAME, or `a` NAME DELTA
--   what is kept of the history (`-`, or COUNT AGE), how many entries are appended, and each: ID KEY
--   RECORD
-- An entry is `NUMBER EXPIRY` and, in the next line, its text; the one without a name is `EPOCH NUMBER`
-- of the partition. Answers `ok` NUMBER ENTRIES BYTES (how many
-- more there are), `conflict`, `invalid` WHY, `late`, or `reserved` when it is somebody else's turn.

local entries, names, expiring, timers, commits, outgoing, scratch, reserved = unpack(KEYS)
local KEEP_EXPIRED_MS, LONGEST_MS, TRIMMED, PURGED, COMMITS = 60000, 1e13, 200, 100, 5000

local place = 0
local function take()
  place = place + 1
  return ARGV[place]
end
local function take_number()
  return tonumber(take())
end

local id, late, is_again = take(), take_number(), take() == '1'
local done = redis.call('ZSCORE', commits, id)
if done then
  return { 'ok', string.format('%.0f', done), '0', '0' }
end
-- It may have been done so long ago that it is not known any more: better not than twice.
if is_again and redis.call('ZCARD', commits) >= COMMITS then
  return { 'late' }
end
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
if micros / 1000 > late then
  return { 'late' }
end
local at, new_epoch, sent, owner = take_number(), take(), take(), take()
local holder = redis.call('GET', reserved)
if holder and holder ~= owner then
  return { 'reserved' }
end

local head = redis.call('HGET', entries, '')
local epoch, number
if head then
  epoch, number = string.match(head, '^(%S+) (%S+)$')
  number = tonumber(number)
else
  -- Grows also from one partition of this name to the next.
  epoch, number = new_epoch, micros
end

-- An entry that has not expired: its version, its expiry (or `-`), and its text.
local function live(name)
  local entry = redis.call('HGET', entries, name)
  if not entry then
    return nil
  end
  local written, expiry, text = string.match(entry, '^(%S+) (%S+)\n(.*)$')
  if expiry ~= '-' and tonumber(expiry) <= at then
    return nil
  end
  return epoch .. ' ' .. written, expiry, text
end

local function range_is(min, max, limit, backwards, expected)
  local found, offset = 0, 0
  while found < limit do
    local page
    if backwards then
      page = redis.call('ZREVRANGEBYLEX', names, max, min, 'LIMIT', offset, limit)
    else
      page = redis.call('ZRANGEBYLEX', names, min, max, 'LIMIT', offset, limit)
    end
    for _, name in ipairs(page) do
      local version = live(name)
      if version then
        found = found + 1
        if expected[found * 2 - 1] ~= name or expected[found * 2] ~= version then
          return false
        end
        if found == limit then
          break
        end
      end
    end
    if #page < limit then
      break
    end
    offset = offset + #page
  end
  return #expected == found * 2
end

for _ = 1, take_number() do
  if take() == 'k' then
    local name, version = take(), take()
    if (live(name) or '') ~= version then
      return { 'conflict' }
    end
  else
    local min, max, limit, backwards = take(), take(), take_number(), take() == '1'
    local expected = {}
    for _ = 1, take_number() * 2 do
      expected[#expected + 1] = take()
    end
    if not range_is(min, max, limit, backwards, expected) then
      return { 'conflict' }
    end
  end
end

-- What is to be: name, text (false for nothing), expiry.
local changes = {}
local function change(name, text, expiry)
  changes[#changes + 1] = { name, text, expiry }
end

for _ = 1, take_number() do
  local kind, name = take(), take()
  if kind == 's' then
    local text, expiry = take(), take()
    change(name, text, expiry)
  elseif kind == 'd' then
    change(name, false)
  else
    -- Whole numbers of 64 bits are beyond Lua's; Redis adds them.
    local delta = take()
    local _, expiry, text = live(name)
    redis.call('SET', scratch, text or '0')
    local sum = redis.pcall('INCRBY', scratch, delta)
    local total = redis.call('GET', scratch)
    redis.call('DEL', scratch)
    if type(sum) == 'table' and sum.err then
      if string.find(sum.err, 'overflow', 1, true) then
        return { 'invalid', 'add: the sum is beyond 64 bits' }
      end
      return { 'invalid', 'add: the value is not a whole number of 64 bits' }
    end
    change(name, total, expiry or '-')
  end
end

local retention = take()
local appended = take_number()
if retention ~= '' or appended > 0 then
  local first, stored, next, last, count, age = 1, 1, 1, 0, '-', '-'
  local _, _, extent = live('m')
  if extent then
    first, stored, next, last, count, age =
      string.match(extent, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
    first, stored, next, last = tonumber(first), tonumber(stored), tonumber(next), tonumber(last)
  end
  if retention ~= '' then
    count, age = string.match(retention, '^(%S+) (%S+)$')
  end
  local end_of_stored = math.min(next, stored + math.max(TRIMMED, appended * 2))
  local used = {}
  for _ = 1, appended do
    local entry, key, record = take(), take(), take()
    last = math.max(last, at)
    local name = string.format('h%016x', next)
    change('i' .. entry, name, '-')
    change(name, string.format('%.0f ', last) .. record, '-')
    if key ~= '' then
      change('o' .. key, entry, '-')
      used[key] = true
    end
    next = next + 1
  end
  if count ~= '-' then
    first = math.max(first, next - tonumber(count))
  end
  while stored < end_of_stored do
    local name = string.format('h%016x', stored)
    local _, _, text = live(name)
    if text then
      local written, entry, key = string.match(text, '^(%S+) (%S+) %S+\n([^\n]*)\n')
      local old = age ~= '-' and tonumber(written) + tonumber(age) <= at
      if stored >= first and not old then
        break
      end
      change('i' .. entry, false)
      local _, _, known = live('o' .. key)
      if known == entry and not used[key] then
        change('o' .. key, false)
      end
    end
    change(name, false)
    stored = stored + 1
    first = math.max(first, stored)
  end
  change('m', string.format('%.0f %.0f %.0f %.0f %s %s', first, stored, next, last, count, age), '-')
end

-- Decided: from here on everything is written.
number = number + 1
local version = string.format('%.0f', number)
local more_entries, more_bytes = 0, 0
for _, one in ipairs(changes) do
  local name, text, expiry = one[1], one[2], one[3]
  local before = redis.call('HSTRLEN', entries, name)
  if before > 0 then
    more_entries, more_bytes = more_entries - 1, more_bytes - before - #name
  end
  local is_timer = string.byte(name) == 116
  if text then
    local entry = version .. ' ' .. expiry .. '\n' .. text
    more_entries, more_bytes = more_entries + 1, more_bytes + #entry + #name
    redis.call('HSET', entries, name, entry)
    redis.call('ZADD', names, 0, name)
    if expiry == '-' then
      redis.call('ZREM', expiring, name)
    else
      redis.call('ZADD', expiring, expiry, name)
    end
    if is_timer then
      redis.call('ZADD', timers, string.match(text, '^(%S+)'), name)
    end
  else
    redis.call('HDEL', entries, name)
    redis.call('ZREM', names, name)
    redis.call('ZREM', expiring, name)
    if is_timer then
      redis.call('ZREM', timers, name)
    end
  end
end
local expired = redis.call('ZRANGEBYSCORE', expiring, '-inf', at - KEEP_EXPIRED_MS, 'LIMIT', 0, PURGED)
for _, name in ipairs(expired) do
  redis.call('HDEL', entries, name)
  redis.call('ZREM', names, name)
  redis.call('ZREM', expiring, name)
end
local left = redis.call('ZCARD', names)
if left == 0 then
  redis.call('DEL', entries, names, expiring, timers)
else
  redis.call('HSET', entries, '', epoch .. ' ' .. version)
  -- A partition of which everything expires goes by itself.
  if redis.call('ZCARD', expiring) == left then
    local newest = redis.call('ZRANGE', expiring, -1, -1, 'WITHSCORES')
    -- Bounded, since a refusal here would come too late.
    local left_ms = math.min(math.max(tonumber(newest[2]) - at, 0) + KEEP_EXPIRED_MS, LONGEST_MS)
    left_ms = string.format('%.0f', left_ms)
    for _, key in ipairs({ entries, names, expiring }) do
      redis.call('PEXPIRE', key, left_ms)
    end
  elseif redis.call('PTTL', entries) >= 0 then
    for _, key in ipairs({ entries, names, expiring }) do
      redis.call('PERSIST', key)
    end
  end
end
if holder then
  redis.call('DEL', reserved)
end
redis.call('ZADD', commits, version, id)
redis.call('ZREMRANGEBYRANK', commits, 0, -COMMITS - 1)
redis.call('PEXPIRE', commits, KEEP_EXPIRED_MS)
if sent ~= '' then
  redis.call('HSET', outgoing, version, sent)
end
return { 'ok', version, tostring(more_entries), tostring(more_bytes) }
