-- Returns jobs whose time limit passed before a worker started them. An id without a record is removed from the index:
-- it would stay ahead of all others for ever.
--
-- Arguments:
--   most  how many at most
-- Answer: the ids.
-- Needs: shared/head
-- Reads: P:deadlines P:job:ID
-- Writes: P:deadlines P:unowned
-- Publishes: nothing

local found = {}
for _, id in ipairs(members_until(P .. ':deadlines', now, 'LIMIT', 0, args.most)) do
  if not is_no_record(id) and redis.call('EXISTS', job_key(id)) == 1 then
    found[#found + 1] = id
  else
    redis.call('ZREM', P .. ':deadlines', id)
  end
end
return found
