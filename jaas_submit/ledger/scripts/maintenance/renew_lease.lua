-- Takes or renews a worker process' lease.
--
-- Arguments:
--   holder  the worker process
--   ttl     seconds until the lease runs out
--   info    facts about the worker, as JSON
-- Answer: 1 when the lease was still valid, or is the first one. 0 when it had run out.
-- Needs: shared/head
-- Reads: P:holders P:seen:HOLDER
-- Writes: P:holders P:info:HOLDER P:seen:HOLDER
-- Publishes: nothing

local holder = args.holder
local old = tonumber(redis.call('ZSCORE', P .. ':holders', holder) or '0')
redis.call('ZADD', P .. ':holders', now + args.ttl, holder)
redis.call('SET', P .. ':info:' .. holder, args.info, 'PX', math.ceil(args.ttl * 1000))
if old <= now and redis.call('EXISTS', P .. ':seen:' .. holder) == 1 then return 0 end
redis.call('SET', P .. ':seen:' .. holder, 1, 'EX', 86400)
return 1
