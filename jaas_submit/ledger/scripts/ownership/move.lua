-- Moves a job that a worker process holds to another state, or changes fields within its state.
--
-- Arguments:
--   id
--   holder   the worker process; the record must name it
--   sources  the states that may lead there
--   to       the new state
--   detail   for people
--   fields   further fields of the record; their values are texts
--   attempt  number of the log's attempt
--   ttl      seconds for which the log is kept
-- Texts:
--   2  the packed log of the attempt; empty without one
--   3  all attempts as JSON; empty where they stay as they are
--   4  the job's output as JSON; empty without one
-- Answer: {1, the record if the job has ended} when done. {0, state, holder, the attempts if the job has a copy, the
--   record if it is already in that state with that holder} when the record is not as expected.
-- Needs: shared/dependents
-- Reads: P:after:ID P:batch:ID P:batch:ID:ended P:job:ID P:log:ID:ATTEMPT
-- Writes: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:waiting P:cancelling P:deadlines P:due P:job:ID
--   P:kept:PLACE P:log:ID:ATTEMPT P:pending_dependents P:ready P:speculating P:state:STATE P:stop:HOLDER P:unowned
-- Publishes: C:available C:cancels C:changes:ID C:changes:batch:ID

local id, to = args.id, args.to
local r = redis.call('HMGET', job_key(id), 'state', 'holder', 'copied_by')
local state, owner = r[1], r[2]
if not state then return {0, '', '', ''} end
if owner ~= args.holder or not contains(args.sources, state) then
  local same = state == to and owner == args.holder
  return {0, state, owner, r[3] and redis.call('HGET', job_key(id), 'attempts') or '',
    same and redis.call('HGETALL', job_key(id)) or nil}
end
local values = {'detail', args.detail}
local function add(field, value)
  values[#values + 1] = field
  values[#values + 1] = value
end
for field, value in pairs(args.fields) do add(field, value) end
if ARGV[3] ~= '' then add('attempts', ARGV[3]) end
if ARGV[4] ~= '' then add('output', ARGV[4]) end
redis.call('HSET', job_key(id), unpack(values))
if ARGV[2] ~= '' then redis.call('SET', P .. ':log:' .. id .. ':' .. args.attempt, ARGV[2], 'EX', args.ttl) end
if state ~= to then
  move(id, state, to, args.detail)
else
  publish_change(id, state, args.detail)
end
return {1, ENDED[to] and redis.call('HGETALL', job_key(id)) or nil}
