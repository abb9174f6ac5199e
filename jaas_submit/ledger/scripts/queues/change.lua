-- Changes what is said of a queue, and notes who did it.
--
-- Arguments:
--   name     of the queue
--   new      true: there must be no such queue yet; otherwise there must be one
--   values   field -> its new value
--   removed  names of fields that get their default again
--   verb     such as "pause"
--   by       who does it
--   detail   for people
--   most     how many kept jobs go on at once, if the queue is not paused any more
-- Answer: 1 when done; 0 when there is such a queue already, or none.
-- Needs: shared/kept
-- Reads: P:job:ID P:kept:PLACE P:queues P:rule_changes
-- Writes: P:job:ID P:kept:PLACE P:opening P:queues P:ready P:rule_changes P:unowned
-- Publishes: C:available

local there = redis.call('HEXISTS', P .. ':queues', args.name) == 1
if there == (args.new == true) then return 0 end
local rules = queue_rules(args.name)
for field, value in pairs(args.values) do rules[field] = value end
for _, field in ipairs(args.removed) do rules[field] = nil end
-- A table without members would be written as an array.
local text = next(rules) and cjson.encode(rules) or '{}'
redis.call('HSET', P .. ':queues', args.name, text)
local before = redis.pcall('HGET', P .. ':rule_changes', 'queue:' .. args.name)
before = type(before) == 'string' and before or nil
redis.call('HSET', P .. ':rule_changes', 'queue:' .. args.name, add_audit(before, args.verb, args.by, args.detail))
if not rules.paused then open_place('queue:' .. args.name, args.most) end
redis.call('PUBLISH', C .. ':available', 'rules')
return 1
