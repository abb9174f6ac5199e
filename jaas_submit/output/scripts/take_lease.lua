-- Takes or renews the lease of the process that follows a node's containers.
--
-- Arguments:
--   node     the swarm's id of the node
--   holder   the process
--   instead  a former holder, which has ended; empty for none
--   process  which process of its machine it is, for its successor
--   version  of jaas
--   engine   version of the node's engine
--   driver   its log driver
--   ttl      seconds until the lease runs out
--   known    seconds for which the node is known to have had an agent
-- Answer: 1 when this process has the lease now.
-- Needs: shared/head
-- Reads: P:agent:NODE
-- Writes: P:agent:NODE P:agents
-- Publishes: nothing

local key = P .. ':agent:' .. args.node
local about = {args.process, args.version, args.engine, args.driver}
local r = redis.call('HMGET', key, 'holder', 'noted', 'process', 'version', 'engine', 'driver')
local holder, noted = r[1], tonumber(r[2] or '0')
if holder and holder ~= args.holder then
  if holder ~= args.instead then return 0 end
  redis.call('HDEL', key, 'since')
end
-- An idle agent renews its lease again and again: what is the same is not written each time.
local same = holder == args.holder and now - noted < args.known / 10
for i = 1, #about do same = same and r[2 + i] == about[i] end
if same then
  redis.call('EXPIRE', key, args.ttl)
  return 1
end
redis.call('HSET', key, 'holder', args.holder, 'noted', digits(now), 'process', about[1], 'version', about[2],
  'engine', about[3], 'driver', about[4])
redis.call('HSETNX', key, 'since', digits(now))
redis.call('EXPIRE', key, args.ttl)
redis.call('ZADD', P .. ':agents', digits(now), args.node)
redis.call('ZREMRANGEBYSCORE', P .. ':agents', '-inf', digits(now - args.known))
redis.call('EXPIRE', P .. ':agents', args.known)
return 1
