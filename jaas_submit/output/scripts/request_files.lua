-- Asks the agent of a node for the files of an ended container.
--
-- Arguments:
--   job
--   attempt  its number
--   token    names the transfer; another one begins anew
--   node     the swarm's id of the node
--   keep     seconds until a transfer ends whose worker asks for nothing more
-- Texts:
--   2  the request, as JSON
-- Answer: nothing.
-- Needs: shared/head
-- Reads: P:files:JOB:ATTEMPT
-- Writes: P:files:JOB:ATTEMPT P:files:JOB:ATTEMPT:pieces P:output:files
-- Publishes: C:files

local name = args.job .. ':' .. args.attempt
local key = files_key(name)
if redis.call('HGET', key, 'token') ~= args.token then
  redis.call('UNLINK', key, pieces_key(name))
  redis.call('ZREM', P .. ':output:files', name)
  redis.call('HSET', key, 'token', args.token, 'request', ARGV[2])
end
redis.call('EXPIRE', key, args.keep)
redis.call('PUBLISH', C .. ':files', 'files ' .. args.job .. ' ' .. args.attempt .. ' ' .. args.node)
