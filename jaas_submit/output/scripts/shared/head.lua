-- What every script begins with: its arguments and the clock.
--
-- Every script gets its named arguments as one JSON object in ARGV[1], "args" from here on. "prefix" and "channels" are
-- always among them: P and C, the first parts of every key and of every channel. Bytes of output follow in
-- ARGV[2], ARGV[3], ...

local args = cjson.decode(ARGV[1])
local P, C = args.prefix, args.channels
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

-- Returns a whole number as text: Lua would write a large one as 1e+15.
local function digits(number) return string.format('%.0f', number) end

local function feed_key(feed) return P .. ':feed:' .. feed end

local function state_key(feed) return P .. ':feed:' .. feed .. ':state' end

local function files_key(name) return P .. ':files:' .. name end

local function pieces_key(name) return P .. ':files:' .. name .. ':pieces' end

-- Keeps a feed for a while after a write or a watch.
local function keep_feed(feed, seconds)
  redis.call('EXPIRE', feed_key(feed), seconds)
  redis.call('EXPIRE', state_key(feed), seconds)
end

-- Returns what a job's watchers want of a feed; nil when nobody watches it any more.
local function wanted_of(job, feed)
  local text = redis.call('HGET', P .. ':watch:' .. job, feed)
  local wanted = text and cjson.decode(text)
  return wanted and wanted['until'] > now and wanted or nil
end

-- Seconds after which a feed that has a writer is announced again: that may have died, and another holds the job.
local AGAIN = 10

-- Registers that somebody watches a feed; tells its writer where it may not know: also again and again while there is
-- none, for whoever is to write it may only learn of the job later.
local function want(job, feed, wanted, seconds)
  local known = wanted_of(job, feed)
  wanted['until'] = now + seconds
  redis.call('HSET', P .. ':watch:' .. job, feed, cjson.encode(wanted))
  redis.call('EXPIRE', P .. ':watch:' .. job, seconds)
  local told = tonumber(redis.call('HGET', state_key(feed), 'told') or '0')
  if not known or not redis.call('HGET', state_key(feed), 'writer') or now - told >= AGAIN then
    redis.call('HSET', state_key(feed), 'told', digits(now))
    redis.call('PUBLISH', C .. ':watch', job .. ' ' .. feed)
  end
end
