-- Says what a process knows of the node whose containers it follows.
--
-- Arguments:
--   node    the swarm's id of the node
--   holder  the process
--   facts   JSON
-- Answer: 1; 0 when the process does not have the node's lease.
-- Needs: shared/head
-- Reads: P:agent:NODE
-- Writes: P:agent:NODE
-- Publishes: nothing

local key = P .. ':agent:' .. args.node
if redis.call('HGET', key, 'holder') ~= args.holder then return 0 end
redis.call('HSET', key, 'facts', args.facts)
return 1
