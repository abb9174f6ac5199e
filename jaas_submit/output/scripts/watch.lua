-- Watches the output of an attempt: takes a feed that has all of it from its first byte, or asks for a new one.
--
-- Arguments:
--   job
--   attempt  its number
--   feed     id of the feed, if a new one is needed
--   since    only output from this time on, RFC 3339; empty for all of it
--   tail     only so many of the lines that are there already; missing for all of them
--   most     how many feeds a job may have
--   seconds  until the watch runs out
--   keep     seconds for which a feed is kept
-- Answer: the id of the feed.
-- Needs: shared/head
-- Reads: P:feed:FEED P:feed:FEED:state P:watch:JOB
-- Writes: P:feed:FEED P:feed:FEED:state P:watch:JOB
-- Publishes: C:watch

local all = args.since == '' and not args.tail
local count, oldest, first = 0, nil, math.huge
local fields = redis.call('HGETALL', P .. ':watch:' .. args.job)
for i = 1, #fields, 2 do
  local feed, wanted = fields[i], cjson.decode(fields[i + 1])
  if wanted['until'] <= now then
    redis.call('HDEL', P .. ':watch:' .. args.job, feed)
  else
    count = count + 1
    if feed == args.feed then return feed end  -- the reply to the first call was lost
    local cost = redis.call('HGET', state_key(feed), 'cost')
    if cost and wanted.attempt == args.attempt and wanted.since == '' and not wanted.tail then
      local entry = redis.call('XRANGE', feed_key(feed), '-', '+', 'COUNT', 1)[1]
      local start = entry and tonumber(string.match(entry[1], '%d+')) or tonumber(cost)
      if start < first then oldest, first = feed, start end
    end
  end
end
local feed = args.feed
if oldest and ((all and first == 0) or count >= args.most) then
  feed = oldest
else
  redis.call('HSET', state_key(feed), 'cost', '0')
end
want(args.job, feed, {attempt = args.attempt, since = args.since, tail = args.tail}, args.seconds)
keep_feed(feed, args.keep)
return feed
