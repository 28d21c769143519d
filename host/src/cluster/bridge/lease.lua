#!lua
-- Who handles the messages of a channel, and how far they are handled.
-- KEYS: the lease of the channel, a hash of
--   holder   the tenure in force
--   until    when it runs out, unless it is prolonged
--   mark     the last mark that was set in the stream of messages
--   claimed  the position up to which messages are some holder's: a mark, and how many came since
-- ARGV: what is wanted; what hosts listen to; the channel; a tenure; for how long, in microseconds; a
-- position, or nothing. Times are those of Redis, in microseconds, so that no host's clock matters and
-- marks grow even when Redis has lost everything.
-- Answers whether it is done, and what is asked for.

local wanted, hosts, channel, tenure, long, position = unpack(ARGV)
local lease = KEYS[1]

local function text(number)
  return string.format('%.0f', number)
end

local function get(field)
  return redis.call('HGET', lease, field)
end

-- Whether one position is behind another.
local function is_later(one, other)
  local mark, index = string.match(one, '(%d+) (%d+)')
  local other_mark, other_index = string.match(other or '0 0', '(%d+) (%d+)')
  mark, other_mark = tonumber(mark), tonumber(other_mark)
  if mark ~= other_mark then
    return mark > other_mark
  end
  return tonumber(index) > tonumber(other_index)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local answer = { '1' }

if wanted == 'mark' then
  -- All hosts hear it at the same place among the messages.
  local mark = text(math.max(now, tonumber(get('mark') or '0') + 1))
  redis.call('HSET', lease, 'mark', mark)
  -- Nothing is known of what came before: it is nobody's.
  redis.call('HSETNX', lease, 'claimed', mark .. ' 0')
  redis.call('PUBLISH', hosts, 'mark ' .. mark .. ' 0 ' .. channel)
  answer[2] = mark
elseif wanted == 'take' then
  local left = tonumber(get('until') or '0') - now
  -- The same may ask again, whose answer was lost.
  if get('holder') and get('holder') ~= tenure and left > 0 then
    return { '0', text(left) }
  end
  if not get('claimed') then
    return { '0', '0' }
  end
  redis.call('HSET', lease, 'holder', tenure, 'until', text(now + tonumber(long)))
  answer[2] = get('claimed')
else
  -- Whose tenure is over does nothing any more.
  if get('holder') ~= tenure then
    return { '0' }
  end
  -- One that was asked for again may come once more, after a later one.
  if position ~= '' and is_later(position, get('claimed')) then
    redis.call('HSET', lease, 'claimed', position)
  end
  if wanted == 'leave' then
    redis.call('HDEL', lease, 'holder', 'until')
    redis.call('PUBLISH', hosts, 'free 0 0 ' .. channel)
  else
    redis.call('HSET', lease, 'until', text(now + tonumber(long)))
  end
  if wanted == 'beat' then
    redis.call('PUBLISH', hosts, 'claimed ' .. get('claimed') .. ' ' .. channel)
  end
end

-- Long after the last host.
redis.call('PEXPIRE', lease, 3600000)
return answer
