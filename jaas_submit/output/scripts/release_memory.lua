-- Deletes all live output, where Redis is full and jobs need the memory. It needs no memory itself, and frees it at
-- once (DEL, not UNLINK).
--
-- Arguments: none
-- Answer: how many feeds, whole outputs and transfers of files were deleted.
-- Needs: shared/head
-- Reads: P:output:feeds P:output:files P:output:whole
-- Writes: P:feed:FEED P:files:JOB:ATTEMPT P:files:JOB:ATTEMPT:pieces P:output:feeds P:output:files P:output:whole
--   P:whole:JOB:ATTEMPT
-- Publishes: nothing

local count = 0
for _, feed in ipairs(redis.call('ZRANGE', P .. ':output:feeds', 0, -1)) do
  count = count + redis.call('DEL', feed_key(feed))
end
for _, name in ipairs(redis.call('ZRANGE', P .. ':output:whole', 0, -1)) do
  count = count + redis.call('DEL', P .. ':whole:' .. name)
end
for _, name in ipairs(redis.call('ZRANGE', P .. ':output:files', 0, -1)) do
  count = count + redis.call('DEL', files_key(name), pieces_key(name))
end
redis.call('DEL', P .. ':output:files')
redis.call('DEL', P .. ':output:feeds')
redis.call('DEL', P .. ':output:whole')
return count
