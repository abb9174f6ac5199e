-- Keeps the content of a sent file in the ledger, unless another producer has put it into the store meanwhile.
--
-- Arguments:
--   digest  of the content
-- Texts:
--   2  the content
-- Answer: 1, or 0 if it is in the store.
-- Needs: shared/head
-- Reads: P:sent:DIGEST
-- Writes: P:sent:DIGEST
-- Publishes: nothing

-- A file in the store whose name is lost here would never be removed.
local place = redis.call('HGET', P .. ':sent:' .. args.digest, 'place')
if place and place ~= '-' then return 0 end
redis.call('HSET', P .. ':sent:' .. args.digest, 'place', '-', 'data', ARGV[2])
return 1
