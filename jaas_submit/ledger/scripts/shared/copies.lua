-- Speculation: a job and its copy, which runs the same container a second time. The first of the two to succeed counts.

-- Makes the success of a copy that of its job, with output and log. The ledger counts the job's own attempt, if there
-- is one, as cancelled; its holder has to stop the container.
local function adopt_attempt_result(id, copy, from)
  local r = redis.call('HMGET', job_key(id), 'holder', 'attempts', 'attempt', 'service', 'node')
  local c = redis.call('HMGET', job_key(copy), 'attempts', 'output', 'node', 'started_at')
  local why = 'its copy ' .. copy .. ' succeeded first'
  local attempts, number = decode_list(r[2]), to_number(r[3])
  if from ~= 'BACKOFF' then
    attempts[#attempts + 1] = {number = number, state = 'CANCELLED', cause = 'cancelled', reason = why,
      service = r[4] or nil, node = r[5] and r[5] ~= '' and r[5] or nil, decision = why}
  end
  local theirs = decode_list(c[1])
  local last = theirs[#theirs]
  redis.call('COPY', P .. ':log:' .. copy .. ':' .. last.number, P .. ':log:' .. id .. ':' .. (number + 1), 'REPLACE')
  last.number, last.decision = number + 1, why
  attempts[#attempts + 1] = last
  redis.call('HSET', job_key(id), 'attempts', cjson.encode(attempts), 'attempt', number + 1, 'detail', why)
  for i, field in ipairs({'output', 'node', 'started_at'}) do
    if c[i + 1] then redis.call('HSET', job_key(id), field, c[i + 1]) end
  end
  -- Its holder may be about to create the attempt's service, which then appears after the end.
  if from == 'LAUNCHING' then redis.call('HSET', job_key(id), 'late', 1) end
  redis.call('HDEL', job_key(id), 'waits_for_copy', 'due_at')
  set_state(id, from, 'SUCCEEDED', why)
  if r[1] == '' then
    mark_unreported(id)
  else
    redis.call('HSET', job_key(id), 'cancel', why)
    request_cancel(id)
  end
end

-- Handles the end of a copy. Returns the end state of its job if the job ends by this, otherwise nothing.
local function copy_ended(copy, id, state)
  local r = read_fields(job_key(id), 'state', 'waits_for_copy', 'detail')
  if not r[1] or ENDED[r[1]] then return nil end
  if state == 'SUCCEEDED' then
    adopt_attempt_result(id, copy, r[1])
    return 'SUCCEEDED'
  end
  if r[2] then
    redis.call('HDEL', job_key(id), 'waits_for_copy')
    set_state(id, r[1], 'FAILED', r[3])
    mark_unreported(id)
    return 'FAILED'
  end
  if r[1] == 'RUNNING' then redis.call('HSET', job_key(id), 'detail', 'its copy ' .. copy .. ' is ' .. state) end
  return nil
end

-- Cancels the copy of a job that has ended. Returns whether the copy has ended by this.
local function cancel_attempt(copy, id, state)
  local r = read_fields(job_key(copy), 'state', 'cancel')
  if not r[1] or ENDED[r[1]] then return false end
  local why = 'job ' .. id .. ', which it is a copy of, is ' .. state
  if not r[2] or r[2] == '' then redis.call('HSET', job_key(copy), 'cancel', why) end
  if r[1] ~= 'QUEUED' then
    request_cancel(copy)
    return false
  end
  redis.call('HSET', job_key(copy), 'detail', why, 'attempts', unstarted_attempt('CANCELLED', 'cancelled', why))
  redis.call('ZREM', P .. ':deadlines', copy)
  set_state(copy, 'QUEUED', 'CANCELLED', why)
  mark_unreported(copy)
  return true
end
