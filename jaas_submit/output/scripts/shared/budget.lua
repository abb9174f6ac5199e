-- How much of Redis' memory output may use, and making room for more.
--
-- A feed's entries have the ids COST-1: COST is what all entries before it cost, in bytes. So the difference of two ids
-- is the memory between them, and a feed is cut to a size without being read.

local OVERHEAD = 128  -- bytes that an entry costs besides its data

-- Returns the bytes that all output may use now. The figures of Redis' memory are read once a second.
local function allowed_now()
  local cached = redis.call('GET', P .. ':output:allowed')
  if cached then return tonumber(cached) end
  local used, most = 0, 0
  local info = redis.pcall('INFO', 'memory')
  if type(info) == 'string' then
    used = tonumber(string.match(info, 'used_memory:(%d+)')) or 0
    most = tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
  end
  -- What has expired is not in the sum any more.
  local total = 0
  for _, kind in ipairs({'feeds', 'whole', 'files'}) do
    local sizes = redis.call('ZRANGE', P .. ':output:' .. kind, 0, -1, 'WITHSCORES')
    for i = 1, #sizes, 2 do
      local key = kind == 'feeds' and feed_key(sizes[i]) or P .. ':whole:' .. sizes[i]
      if kind == 'files' then key = files_key(sizes[i]) end
      if redis.call('EXISTS', key) == 0 then
        redis.call('ZREM', P .. ':output:' .. kind, sizes[i])
      else
        total = total + tonumber(sizes[i + 1])
      end
    end
  end
  -- The rest of Redis' memory is for jobs. Where they need it, output gets less than its share.
  local allowed = args.unlimited
  if most > 0 then
    allowed = math.max(math.min(most * args.share, most * (1 - args.reserve) - (used - total)), 0)
  end
  redis.call('SET', P .. ':output:allowed', digits(allowed), 'PX', 1000)
  return allowed
end

-- Returns the bytes that a kind of output uses now.
local function used_by(kind)
  local total = 0
  local sizes = redis.call('ZRANGE', P .. ':output:' .. kind, 0, -1, 'WITHSCORES')
  for i = 2, #sizes, 2 do total = total + tonumber(sizes[i]) end
  return total
end

-- Removes a feed's oldest entries, so that those that are left cost at most some bytes.
local function trim_feed(feed, most)
  local cost = tonumber(redis.call('HGET', state_key(feed), 'cost') or '0')
  if most <= 0 then
    redis.call('UNLINK', feed_key(feed))
  else
    redis.call('XTRIM', feed_key(feed), 'MINID', digits(math.max(cost - most, 0)) .. '-0')
  end
  if most <= 0 or redis.call('EXISTS', feed_key(feed)) == 0 then
    redis.call('ZREM', P .. ':output:feeds', feed)
  else
    redis.call('ZADD', P .. ':output:feeds', digits(math.min(cost, most)), feed)
  end
end

-- Cuts the largest feeds until all output is within its budget; at least so many bytes are to be free.
local function make_room(free)
  local allowed = allowed_now()
  local total = used_by('feeds') + used_by('whole') + used_by('files') + free
  while total > allowed do
    local largest = redis.call('ZREVRANGE', P .. ':output:feeds', 0, 0, 'WITHSCORES')
    if #largest == 0 then return false end
    local size = tonumber(largest[2])
    local most = size > 8192 and math.floor(size / 2) or 0
    trim_feed(largest[1], most)
    total = total - (size - most)
  end
  return true
end
