-- Writes packs of output to a feed. What is there already is ignored, so that repeating a call does no harm.
--
-- Arguments:
--   job
--   feed       id of the feed
--   entries    what is known of each: of a pack o (bytes of stdout and stderr before it) and n (its bytes of both); of
--              a gap s (1 stdout, 2 stderr), o (bytes of that stream before it), missing (bytes) and why. For each pack
--              two texts follow: its heads and its data.
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
-- Publishes: C:output:JOB

local feed = args.feed
local r = redis.call('HMGET', state_key(feed), 'cost', '1', '2', 'from1', 'from2')
if not r[1] or not wanted_of(args.job, feed) then return 0 end
local cost, before = tonumber(r[1]), tonumber(r[1])
local at = {tonumber(r[2] or ''), tonumber(r[3] or '')}
local from = {tonumber(r[4] or ''), tonumber(r[5] or '')}

-- Returns how many of some bytes are there already.
local function known(stream, offset, length)
  return at[stream] and math.min(math.max(at[stream] - offset, 0), length) or 0
end

local function reach(stream, offset, length)
  from[stream] = from[stream] or offset
  at[stream] = math.max(at[stream] or 0, offset + length)
end

local function add(size, ...)
  redis.call('XADD', feed_key(feed), digits(cost) .. '-1', ...)
  cost = cost + size + OVERHEAD
end

local text = 2
for _, entry in ipairs(args.entries) do
  if entry.missing then
    local had = known(entry.s, entry.o, entry.missing)
    if had < entry.missing then
      local missing, why = digits(entry.missing - had), entry.why
      add(#why, 's', entry.s, 'o', digits(entry.o + had), 'missing', missing, 'why', why)
      reach(entry.s, entry.o, entry.missing)
    end
  else
    local heads, data = ARGV[text], ARGV[text + 1]
    text = text + 2
    local had = {known(1, entry.o[1], entry.n[1]), known(2, entry.o[2], entry.n[2])}
    if had[1] + had[2] == 0 then
      add(#heads + #data, 'p', heads, 'd', data)
    elseif had[1] + had[2] < #data then
      add(#heads + #data, 'p', heads, 'd', data, 'k', digits(had[1]) .. ' ' .. digits(had[2]))
    end
    for s = 1, 2 do
      if entry.n[s] > 0 then reach(s, entry.o[s], entry.n[s]) end
    end
  end
end
if args.writer ~= '' then redis.call('HSET', state_key(feed), 'writer', args.writer) end
if cost > before then
  for s = 1, 2 do
    if at[s] then redis.call('HSET', state_key(feed), tostring(s), digits(at[s]), 'from' .. s, digits(from[s])) end
  end
  redis.call('HSET', state_key(feed), 'cost', digits(cost))
  trim_feed(feed, args.window)
  make_room(0)
end
keep_feed(feed, args.keep)
redis.call('PUBLISH', C .. ':output:' .. args.job, feed .. ' ' .. digits(cost))
return 1
