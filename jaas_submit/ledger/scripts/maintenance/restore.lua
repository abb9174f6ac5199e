-- Creates the record of an existing service again, after Redis has lost it.
--
-- If Redis came back with data older than the job, the batch has not counted the job either, or is itself unknown. If
-- only the record is missing, the index of its state still has its id, and tells in which state the batch counted it.
--
-- Arguments:
--   id
--   queue         the workers' queue
--   attempt       number of the service's attempt
--   copy          the id that a copy of the job would have
--   batch, index  its batch, and its place there; missing if it has no batch
--   copy_of       the job that it is a copy of; missing if it is no copy
--   replaces      the job whose place in the batch it took; missing if it took none
-- Texts:
--   2  its description
-- Answer: 1 when done, 0 when there is a record.
-- Needs: shared/batches
-- Reads: P:batch:ID P:job:ID P:state:STATE
-- Writes: P:batch:ID P:batch:ID:places P:batches P:due P:job:ID P:jobs P:kept:PLACE P:ready P:state:STATE P:unowned
-- Publishes: C:changes:ID

local id, batch, copy_of = args.id, args.batch, args.copy_of

local function restore_copy(was)
  redis.call('HSET', job_key(id), 'copy_of', copy_of)
  if not was then add_to_batch(batch, 'copies', 1) end
  local state = read_fields(job_key(copy_of), 'state')[1]
  if state and ENDED[state] then
    redis.call('HSET', job_key(id), 'cancel', 'job ' .. copy_of .. ', which it is a copy of, is ' .. state)
  elseif state then
    redis.call('HSET', job_key(copy_of), 'copied_by', id)
  end
end

local function restore_member(was)
  if not was then add_to_batch(batch, 'size', 1) end
  local span = to_number(redis.call('HGET', batch_key(batch), 'span'))
  if args.index + 1 > span then redis.call('HSET', batch_key(batch), 'span', args.index + 1) end
  local old = args.replaces and read_fields(job_key(args.replaces), 'state', 'batch', 'left') or {}
  if args.replaces then redis.pcall('HSET', batch_key(batch) .. ':places', args.index, id) end
  if ENDED[old[1]] and old[2] == batch and not old[3] then
    leave_batch(batch, old[1], 1)
    redis.call('HSET', job_key(args.replaces), 'left', 'job ' .. id .. ' took its place')
  end
  if read_fields(job_key(args.copy), 'copy_of')[1] == id then
    redis.call('HSET', job_key(id), 'copied_by', args.copy)
  end
  local cancelled = redis.call('HGET', batch_key(batch), 'cancelled')
  if cancelled then redis.call('HSET', job_key(id), 'cancel', cancelled) end
end

if redis.call('EXISTS', job_key(id)) == 1 then return 0 end
local was = nil
for _, state in ipairs(STATES) do
  if redis.call('ZSCORE', P .. ':state:' .. state, id) then was = state end
end
redis.call('HSET', job_key(id), 'spec', ARGV[2], 'queue', args.queue, 'task_id', id, 'message', '', 'holder', '',
  'attempt', args.attempt, 'attempts', '[]', 'created_at', stamp, 'restored', 1)
-- One whose end its batch knows is not counted twice.
if batch and not (was and ENDED[was]) and redis.pcall('HEXISTS', batch_key(batch), 'done') == 0 then
  redis.call('HSETNX', batch_key(batch), 'created_at', stamp)
  redis.call('ZADD', P .. ':batches', 'NX', stamp, batch)
  redis.call('HSET', job_key(id), 'batch', batch, 'index', args.index, 'active', 1)
  if not was or was == 'WAITING' then add_to_batch(batch, 'active', 1) end
  if copy_of then restore_copy(was) else restore_member(was) end
end
redis.call('ZADD', P .. ':jobs', stamp, id)
redis.call('ZADD', P .. ':unowned', stamp, id)
set_state(id, was, 'PENDING', 'the record was lost and made again from the service')
return 1
