-- Writes pieces of output to a feed. What is there already is ignored, so that repeating a call does no harm.
--
-- Arguments:
--   job
--   feed       id of the feed
--   pieces     their heads: s (1 stdout, 2 stderr), o (bytes of that stream before it), t (time); of a gap also missing
--              (bytes) and why. The data of each follow as texts, empty for a gap.
--   writer     who writes; empty to say nothing
--   window     bytes that a feed may cost at most
--   share      part of Redis' memory that all output may use
--   reserve    part of Redis' memory that output leaves free for jobs
--   unlimited  bytes that all output may use if Redis has no maxmemory
--   keep       seconds for which a feed is kept
-- Answer: 1; 0 when nobody watches the feed any more.
-- Needs: shared/budget
-- Reads: P:feed:FEED P:feed:FEED:state P:files:JOB:ATTEMPT P:output:allowed P:output:feeds P:output:files
--   P:output:whole P:watch:JOB P:whole:JOB:ATTEMPT
-- Writes: P:feed:FEED P:feed:FEED:state P:output:allowed P:output:feeds P:output:files P:output:whole
-- Publishes: P:output:JOB

local feed = args.feed
local r = redis.call('HMGET', state_key(feed), 'cost', '1', '2')
if not r[1] or not wanted_of(args.job, feed) then return 0 end
local cost, before = tonumber(r[1]), tonumber(r[1])
local at = {tonumber(r[2] or ''), tonumber(r[3] or '')}

local function add(stream, offset, size, ...)
  redis.call('XADD', feed_key(feed), digits(cost) .. '-1', 's', stream, 'o', digits(offset), ...)
  cost = cost + size + OVERHEAD
end

for i, piece in ipairs(args.pieces) do
  local s, data = piece.s, ARGV[i + 1]
  local length = piece.missing or #data
  local known = at[s] and math.max(at[s] - piece.o, 0) or 0
  if known < length then
    if piece.missing then
      add(s, piece.o + known, #piece.why, 'missing', digits(length - known), 'why', piece.why)
    else
      add(s, piece.o + known, length - known, 't', piece.t, 'd', string.sub(data, known + 1))
    end
    at[s] = piece.o + length
  end
end
if args.writer ~= '' then redis.call('HSET', state_key(feed), 'writer', args.writer) end
if cost > before then
  for s = 1, 2 do
    if at[s] then redis.call('HSET', state_key(feed), tostring(s), digits(at[s])) end
  end
  redis.call('HSET', state_key(feed), 'cost', digits(cost))
  trim_feed(feed, args.window)
  make_room(0)
end
keep_feed(feed, args.keep)
redis.call('PUBLISH', P .. ':output:' .. args.job, feed .. ' ' .. digits(cost))
return 1
