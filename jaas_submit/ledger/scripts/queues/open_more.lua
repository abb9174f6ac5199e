-- Goes on with opening the places that have more kept jobs than one script lets go on.
--
-- Arguments:
--   most  how many jobs at most
-- Answer: 1 if there is more to do.
-- Needs: shared/kept
-- Reads: P:batch:ID P:job:ID P:kept:PLACE P:opening P:queues
-- Writes: P:job:ID P:kept:PLACE P:opening P:ready P:unowned
-- Publishes: C:available

local place = redis.call('SRANDMEMBER', P .. ':opening')
if not place then return 0 end
if place_of(string.match(place, '^queue:(.*)$'), nil, string.match(place, '^batch:(.*)$')) then
  redis.call('SREM', P .. ':opening', place)  -- it was closed once more
else
  open_place(place, args.most)
end
return redis.call('SCARD', P .. ':opening') > 0 and 1 or 0
