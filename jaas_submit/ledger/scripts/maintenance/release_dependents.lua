-- Goes on with what comes after jobs and batches that have ended, where one script would have taken too long.
--
-- Arguments: none.
-- Answer: 1 when there is still more of it, else 0.
-- Reads:
-- Writes:
-- Publishes:

if redis.call('EXISTS', P .. ':pending_dependents') == 0 then return 0 end
release_dependents({})
return redis.call('EXISTS', P .. ':pending_dependents')
