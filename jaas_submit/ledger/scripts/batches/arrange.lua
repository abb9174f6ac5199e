-- Notes in which order a batch's inputs stand, and which of its ended jobs count in it.
--
-- Arguments:
--   batch
--   out    ids of jobs that do not count any more, where they have ended
--   back   ids of jobs that count again
--   why    why those do not count any more
--   order  the places of the inputs, in their order; without it the order stays, and an empty one is that of the places
-- Answer: how many jobs count no more by this call.
-- Needs: shared/batches
-- Reads: P:batch:ID P:job:ID
-- Writes: P:batch:ID P:batch:ID:order P:job:ID
-- Publishes: nothing

local batch, gone = args.batch, 0
for _, id in ipairs(args.out) do
  local r = read_fields(job_key(id), 'state', 'batch', 'left')
  if ENDED[r[1]] and r[2] == batch and not r[3] then
    redis.call('HSET', job_key(id), 'left', args.why)
    leave_batch(batch, r[1], 1)
    gone = gone + 1
  end
end
for _, id in ipairs(args.back) do
  local r = read_fields(job_key(id), 'state', 'batch', 'left')
  if r[2] == batch and r[3] == args.why then
    redis.call('HDEL', job_key(id), 'left')
    leave_batch(batch, r[1], -1)
  end
end
if args.order then
  add_to_batch(batch, 'generation', 1)
  redis.call('UNLINK', batch_key(batch) .. ':order')
  for first = 1, #args.order, 1000 do
    redis.call('RPUSH', batch_key(batch) .. ':order', unpack(args.order, first, math.min(first + 999, #args.order)))
  end
end
return gone
