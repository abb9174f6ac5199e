-- Returns the next pieces of a transfer, and deletes those that have been stored.
--
-- Arguments:
--   job
--   attempt  its number
--   token    names the transfer
--   stored   how many pieces have been stored
--   most     bytes that are returned, if there is more than one piece
--   largest  bytes that a piece may have
--   keep     seconds until a transfer ends whose worker asks for nothing more
-- Answer: the pieces; nothing when the transfer has ended; 0 when a piece is too large.
-- Needs: shared/budget
-- Reads: P:files:JOB:ATTEMPT P:files:JOB:ATTEMPT:pieces
-- Writes: P:files:JOB:ATTEMPT P:files:JOB:ATTEMPT:pieces P:output:files
-- Publishes: nothing

local name = args.job .. ':' .. args.attempt
local key, pieces = files_key(name), pieces_key(name)
local r = redis.call('HMGET', key, 'token', 'stored', 'bytes')
if r[1] ~= args.token then return false end
redis.call('EXPIRE', key, args.keep)
redis.call('EXPIRE', pieces, args.keep)
local before, waiting = tonumber(r[2] or '0'), tonumber(r[3] or '0')
if args.stored > before then
  for _ = before + 1, args.stored do
    local piece = redis.call('LPOP', pieces)
    if not piece then break end
    waiting = waiting - #piece - OVERHEAD
  end
  redis.call('HSET', key, 'stored', digits(args.stored), 'bytes', digits(waiting))
  if waiting > 0 then
    redis.call('ZADD', P .. ':output:files', digits(waiting), name)
  else
    redis.call('ZREM', P .. ':output:files', name)
  end
end
local found, bytes = {}, 0
for i = 0, redis.call('LLEN', pieces) - 1 do
  local piece = redis.call('LINDEX', pieces, i)
  if #piece > args.largest then return 0 end
  bytes = bytes + #piece
  if i > 0 and bytes > args.most then break end
  found[i + 1] = piece
end
return found
