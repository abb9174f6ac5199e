-- Deletes what is said of a queue that takes no new jobs and has none. Whoever calls has looked for jobs that are
-- neither in its lists nor kept.
--
-- Arguments:
--   name   of the queue
--   lists  the lists that it is made of
-- Answer: 'done', 'unknown', or why not: 'open', or how many messages or kept jobs it has.
-- Needs: shared/kept
-- Reads: P:kept:PLACE P:queues QUEUE
-- Writes: P:kept:PLACE P:opening P:queues P:rule_changes
-- Publishes: C:available

if redis.call('HEXISTS', P .. ':queues', args.name) == 0 then return 'unknown' end
if queue_rules(args.name).draining ~= true then return 'open' end
local place, left = 'queue:' .. args.name, 0
for _, queue_list in ipairs(args.lists) do
  local length = redis.pcall('LLEN', queue_list)
  if type(length) == 'number' then left = left + length end
end
repair_place(place)
left = left + redis.call('ZCARD', P .. ':kept:' .. place)
if left > 0 then return tostring(left) end
redis.call('HDEL', P .. ':queues', args.name)
redis.call('HDEL', P .. ':rule_changes', place)
redis.call('SREM', P .. ':opening', place)
redis.call('PUBLISH', C .. ':available', 'rules')
return 'done'
