-- Records that a sent file is in the store, and deletes a content that was in the ledger.
--
-- Arguments:
--   digest  of its content
--   name    in the store
-- Answer: the name under which the content is there: another one if another producer was first; "" if it took so long
--   that the file is being removed.
-- Needs: shared/head
-- Reads: P:sent:DIGEST P:sent_left
-- Writes: P:sent:DIGEST P:sent_left
-- Publishes: nothing

local over = redis.call('ZSCORE', P .. ':sent_left', args.name)
if to_number(over or '0') <= now then return '' end
local place = redis.call('HGET', P .. ':sent:' .. args.digest, 'place')
if place and place ~= '-' then
  redis.call('ZADD', P .. ':sent_left', 0, args.name)
  return place
end
redis.call('HSET', P .. ':sent:' .. args.digest, 'place', args.name)
redis.call('HDEL', P .. ':sent:' .. args.digest, 'data')
redis.call('ZREM', P .. ':sent_left', args.name)
return args.name
