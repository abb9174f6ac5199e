-- Keeps the output of a container that has exited, until a worker has stored it.
--
-- Arguments:
--   job
--   attempt    its number
--   share      part of Redis' memory that all output may use
--   reserve    part of Redis' memory that output leaves free for jobs
--   unlimited  bytes that all output may use if Redis has no maxmemory
--   keep       seconds for which it is kept
-- Texts:
--   2  what is said of the output, as JSON
--   3  head and tail, packed
-- Answer: 1; 0 when there was no room for head and tail.
-- Needs: shared/budget
-- Reads: P:feed:FEED P:feed:FEED:state P:files:JOB:ATTEMPT P:output:allowed P:output:feeds P:output:files
--   P:output:whole P:whole:JOB:ATTEMPT
-- Writes: P:feed:FEED P:output:allowed P:output:feeds P:output:files P:output:whole P:whole:JOB:ATTEMPT
-- Publishes: nothing

local name = args.job .. ':' .. args.attempt
local key = P .. ':whole:' .. name
redis.call('UNLINK', key)
redis.call('ZREM', P .. ':output:whole', name)
local size = #ARGV[2] + #ARGV[3] + OVERHEAD
local room = make_room(size)
if not room then size = #ARGV[2] + OVERHEAD end
redis.call('HSET', key, 'about', ARGV[2])
if room then redis.call('HSET', key, 'logs', ARGV[3]) end
redis.call('EXPIRE', key, args.keep)
redis.call('ZADD', P .. ':output:whole', size, name)
return room and 1 or 0
