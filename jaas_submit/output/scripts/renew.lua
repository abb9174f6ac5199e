-- Goes on watching a feed.
--
-- Arguments:
--   job
--   attempt  its number
--   feed     id of the feed
--   since    as it was asked for
--   tail     as it was asked for
--   seconds  until the watch runs out
--   keep     seconds for which a feed is kept
-- Answer: 1; 0 when the feed has expired.
-- Needs: shared/head
-- Reads: P:feed:FEED:state P:watch:JOB
-- Writes: P:feed:FEED P:feed:FEED:state P:watch:JOB
-- Publishes: C:watch

if redis.call('EXISTS', state_key(args.feed)) == 0 then return 0 end
want(args.job, args.feed, {attempt = args.attempt, since = args.since, tail = args.tail}, args.seconds)
keep_feed(args.feed, args.keep)
return 1
