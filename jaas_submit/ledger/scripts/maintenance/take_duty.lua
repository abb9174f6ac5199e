-- Takes or keeps a cluster-wide duty.
--
-- Arguments:
--   name    of the duty
--   holder  the worker process
--   ttl     seconds after which another worker may take it
-- Answer: 1 when this worker process has the duty now.
-- Needs: shared/head
-- Reads: P:lock:NAME
-- Writes: P:lock:NAME
-- Publishes: nothing

local owner = redis.call('GET', P .. ':lock:' .. args.name)
if owner and owner ~= args.holder then return 0 end
redis.call('SET', P .. ':lock:' .. args.name, args.holder, 'PX', math.ceil(args.ttl * 1000))
return 1
