-- Deletes all live output, where Redis is full and jobs need the memory. It needs no memory itself.
--
-- Arguments: none
-- Answer: how many feeds and whole outputs were deleted.
-- Needs: shared/head
-- Reads: P:output:feeds P:output:whole
-- Writes: P:feed:FEED P:output:feeds P:output:whole P:whole:JOB:ATTEMPT
-- Publishes: nothing

local count = 0
for _, feed in ipairs(redis.call('ZRANGE', P .. ':output:feeds', 0, -1)) do
  count = count + redis.call('UNLINK', feed_key(feed))
end
for _, name in ipairs(redis.call('ZRANGE', P .. ':output:whole', 0, -1)) do
  count = count + redis.call('UNLINK', P .. ':whole:' .. name)
end
redis.call('UNLINK', P .. ':output:feeds')
redis.call('UNLINK', P .. ':output:whole')
return count
