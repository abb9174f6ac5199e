-- Ends a feed.
--
-- Arguments:
--   job
--   feed  id of the feed
--   keep  seconds for which a feed is kept
-- Texts:
--   2  what its writer says of the output, as JSON
-- Answer: 1; 0 when the feed has expired.
-- Needs: shared/head
-- Reads: P:feed:FEED:state
-- Writes: P:feed:FEED P:feed:FEED:state
-- Publishes: C:output:JOB

if redis.call('EXISTS', state_key(args.feed)) == 0 then return 0 end
redis.call('HSET', state_key(args.feed), 'end', ARGV[2])
keep_feed(args.feed, args.keep)
redis.call('PUBLISH', C .. ':output:' .. args.job, args.feed .. ' end')
return 1
