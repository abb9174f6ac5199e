-- Registers who needs some sent files, and tells where their content is.
--
-- From then on they are kept as long as one of these jobs or batches has a record, and for a day at least: a producer
-- registers its jobs before it writes their records.
--
-- Arguments:
--   digests  of the files' contents
--   users    ids of jobs, and batch:ID for a batch
-- Answer: for each digest "-" if the content is in this ledger, its name in the store, or "" if it is nowhere.
-- Needs: shared/head
-- Reads: P:sent:DIGEST
-- Writes: P:sent:DIGEST:users P:sent_files
-- Publishes: nothing

local places = {}
for n, digest in ipairs(args.digests) do
  redis.call('ZADD', P .. ':sent_files', 'NX', stamp, digest)
  for _, user in ipairs(args.users) do redis.call('ZADD', P .. ':sent:' .. digest .. ':users', stamp, user) end
  places[n] = redis.call('HGET', P .. ':sent:' .. digest, 'place') or ''
end
return places
