-- Gives up the lease of the process that follows a node's containers.
--
-- Arguments:
--   node    the swarm's id of the node
--   holder  the process
-- Answer: 1 when this process had it.
-- Needs: shared/head
-- Reads: P:agent:NODE
-- Writes: P:agent:NODE
-- Publishes: nothing

local key = P .. ':agent:' .. args.node
if redis.call('HGET', key, 'holder') ~= args.holder then return 0 end
return redis.call('UNLINK', key)
