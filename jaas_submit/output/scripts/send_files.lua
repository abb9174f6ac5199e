-- Sends a piece of a transfer to its worker. Repeating a call does no harm.
--
-- Arguments:
--   job
--   attempt    its number
--   token      names the transfer
--   n          number of the piece, from 0
--   window     bytes that may wait for the worker
--   share      part of Redis' memory that all output may use
--   reserve    part of Redis' memory that output leaves free for jobs
--   unlimited  bytes that all output may use if Redis has no maxmemory
-- Texts:
--   2  the piece
-- Answer: 1; 0 when it has to wait; -1 when the transfer has ended.
-- Needs: shared/budget
-- Reads: P:feed:FEED P:feed:FEED:state P:files:JOB:ATTEMPT P:output:allowed P:output:feeds P:output:files
--   P:output:whole P:whole:JOB:ATTEMPT
-- Writes: P:feed:FEED P:files:JOB:ATTEMPT P:files:JOB:ATTEMPT:pieces P:output:allowed P:output:feeds P:output:files
-- Publishes: nothing

local name = args.job .. ':' .. args.attempt
local key = files_key(name)
local r = redis.call('HMGET', key, 'token', 'sent', 'bytes')
if r[1] ~= args.token then return -1 end
if args.n < tonumber(r[2] or '0') then return 1 end
local waiting, size = tonumber(r[3] or '0'), #ARGV[2] + OVERHEAD
if waiting > 0 and waiting + size > args.window then return 0 end
if not make_room(size) then return 0 end
local pieces = pieces_key(name)
redis.call('RPUSH', pieces, ARGV[2])
redis.call('EXPIRE', pieces, math.max(redis.call('TTL', key), 1))
redis.call('HSET', key, 'sent', digits(args.n + 1), 'bytes', digits(waiting + size))
redis.call('ZADD', P .. ':output:files', digits(waiting + size), name)
return 1
