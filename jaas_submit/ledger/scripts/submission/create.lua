-- Writes the records of new jobs, and puts their Celery messages into the queues.
--
-- One run writes all of them: with a run for each job, submission in bulk was 2.5 times as slow.
--
-- Arguments:
--   jobs  one object for each, with
--     id
--     queue         the list of its message
--     task_id       Celery's id, if it differs
--     key           idempotency key, if there is one
--     key_ttl       seconds for which the key leads to this job
--     start_within  seconds after which a job that has not started is given up; never, if it is missing
--     expires_at    time at which a job that has not started is given up; never, if it is missing
--     not_before    time before which it does not start
--     delay         seconds for which it does not start
--     batch, index  its batch, and its place there
--     input         the key of its input, in a batch with keys of inputs
--     digest        of that input, if the key does not tell its content
--     replaces      the ended job of the batch whose place it takes
--     after         {{id or "batch:ID", success, failure or finish}, ...}
--     fields        further fields of the record; their values are texts
--     changed       names of the fields in which a replay differs; missing if it does not
--     received      a foreign producer's message, which the record replaces: {its tag in the notes of unacknowledged
--                   messages, seconds for which the job is left to the worker that has the message}
-- Texts, three for each job:
--   its description; the Celery message for the record; the Celery message for the queue. Empty if there is none.
-- Answer: for each job one of
--   {1, id, state}  its record is new
--   {0, id, state}  there is a job already with its id or key: this one
--   {2, what}       this job or batch, which it is to come after, is not known
--   {3}             its batch is cancelled or closed
--   {4}             another call has given its place to another input, or its input another place
--   {6}             its queue takes no new jobs; those of foreign producers, which have been sent already, are taken
--   {5, why}        it cannot take the place of the job that it replaces
-- Needs: shared/dependents
-- Reads: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:inputs P:job:ID P:key:KEY P:log:ID:ATTEMPT P:queues
-- Writes: P:after:ID P:batch:ID P:batch:ID:ended P:batch:ID:inputs P:batch:ID:places P:batch:ID:waiting P:cancelling
--   P:deadlines P:due P:job:ID P:jobs P:kept:PLACE P:key:KEY P:log:ID:ATTEMPT P:pending_dependents P:ready P:revoked
--   P:speculating P:state:STATE P:stop:HOLDER P:unacked P:unacked_index P:unowned QUEUE
-- Publishes: C:available C:cancels C:changes:ID C:changes:batch:ID

-- Returns what the jobs and batches that a job is to come after are, and which of them is not known.
local function find_dependencies(after)
  local found = {}
  for _, dependency in ipairs(after) do
    local on = dependency[1]
    local state
    if string.sub(on, 1, 6) == 'batch:' then
      local b = read_fields(batch_key(string.sub(on, 7)), 'created_at', 'state')
      if not b[1] then return nil, on end
      state = b[2]
    else
      local r = read_fields(job_key(on), 'state', 'reported')
      state = r[1]
      if not state then return nil, on end
      if not ENDED[state] and r[2] ~= '1' then state = nil end
    end
    found[#found + 1] = {on, dependency[2], state}
  end
  return found
end

-- Returns how many ends a job has to wait for, and why it is to be skipped, if it is.
local function add_dependencies(id, found)
  local needs, skip = 0, nil
  for _, dependency in ipairs(found) do
    local on, condition, state = dependency[1], dependency[2], dependency[3]
    if not state then
      redis.call('SADD', P .. ':after:' .. on, id .. '|' .. condition)
      needs = needs + 1
    elseif not dependency_met(condition, state) then
      skip = (string.sub(on, 1, 6) == 'batch:' and 'batch ' .. string.sub(on, 7) or 'job ' .. on) .. ' is ' .. state
    end
  end
  return needs, skip
end

-- Returns the time before which a job does not start; nothing if it has none, or if that has passed.
local function start_time(job)
  local due = job.delay and now + job.delay or job.not_before
  return due and due > now and due or nil
end

-- Returns the time at which a job that has not started is given up; nothing if it has none.
local function latest_start(job)
  local latest = job.start_within and now + job.start_within
  if job.expires_at and (not latest or job.expires_at < latest) then latest = job.expires_at end
  return latest
end

local function first_state(id, job, found, due)
  local needs, skip = add_dependencies(id, found)
  if skip then
    redis.call('HSET', job_key(id), 'detail', skip, 'attempts', unstarted_attempt('SKIPPED', 'skipped', skip))
    redis.call('ZADD', P .. ':unowned', stamp, id)
    return 'SKIPPED'
  end
  local latest = latest_start(job)
  if latest then redis.call('ZADD', P .. ':deadlines', latest, id) end
  if due then
    redis.call('HSET', job_key(id), 'not_before', string.format('%.6f', due))
    redis.call('ZADD', P .. ':due', due, id)
    needs = needs + 1
  end
  if needs > 0 then
    redis.call('HSET', job_key(id), 'needs', needs)
    return 'WAITING'
  end
  if job.batch and not take_slot(id, job.batch) then return 'WAITING' end
  return 'QUEUED'
end

-- Returns whether an input has this place in its batch already, or may have it.
local function place_is_free(job)
  local said = redis.pcall('HGET', batch_key(job.batch) .. ':inputs', job.input)
  if type(said) == 'string' then return tonumber(string.match(said, '^%d+')) == job.index end
  local r = redis.call('HMGET', job_key(job.id), 'state', 'restored')
  return not r[1] or r[2] == '1'
end

local function note_input(job)
  local said = job.index .. (job.digest and ' ' .. job.digest or '')
  redis.pcall('HSET', batch_key(job.batch) .. ':inputs', job.input, said)
  local span = to_number(read_fields(batch_key(job.batch), 'span')[1])
  if job.index + 1 > span then redis.call('HSET', batch_key(job.batch), 'span', job.index + 1) end
end

-- Gives a job the place of another in their batch. Returns why not, if it cannot.
local function take_place(job)
  local old = read_fields(job_key(job.replaces), 'state', 'batch', 'left')
  local b = read_fields(batch_key(job.batch), 'done', 'cancelled')
  if old[2] ~= job.batch or old[3] then return 'job ' .. job.replaces .. ' has no place in batch ' .. job.batch end
  if not ENDED[old[1]] then return 'job ' .. job.replaces .. ' is ' .. old[1] end
  if b[2] and not b[1] then return 'batch ' .. job.batch .. ' is being cancelled; try again when it has ended' end
  if b[1] then reopen_batch(job.batch) end
  leave_batch(job.batch, old[1], 1)
  redis.call('HSET', job_key(job.replaces), 'left', 'job ' .. job.id .. ' took its place')
  redis.pcall('HSET', batch_key(job.batch) .. ':places', job.index, job.id)
  return nil
end

-- Acknowledges a foreign producer's message that a worker has received: the record replaces it. If the worker dies,
-- another one takes the job.
local function acknowledge(id, state, received)
  local tag, pause = unpack(received)
  redis.pcall('HDEL', P .. ':unacked', tag)
  redis.pcall('ZREM', P .. ':unacked_index', tag)
  if state == 'QUEUED' then redis.call('ZADD', P .. ':ready', now + pause, id) end
end

local function create(job, spec, message, wakeup)
  local id = job.id
  local record = job_key(id)
  if job.input and not place_is_free(job) then return {4} end
  if redis.call('EXISTS', record) == 1 then
    if job.input then note_input(job) end
    return {0, id, read_fields(record, 'state')[1] or ''}
  end
  if job.key then
    local first = redis.pcall('GET', P .. ':key:' .. job.key)
    -- A key is kept for key_ttl, even if its job's record expires earlier.
    if type(first) == 'string' then return {0, first, read_fields(job_key(first), 'state')[1] or ''} end
  end
  if job.batch then
    local b = read_fields(batch_key(job.batch), 'created_at', 'cancelled', 'total')
    if not b[1] then return {2, 'batch:' .. job.batch} end
    if (b[2] or b[3]) and not job.replaces then return {3} end
  end
  if spec ~= '' and message == '' and queue_rules(job.queue).draining == true then return {6} end
  local found, unknown = find_dependencies(job.after or {})
  if not found then return {2, unknown} end
  local refused = job.replaces and take_place(job)
  if refused then return {5, refused} end
  if job.key then redis.call('SET', P .. ':key:' .. job.key, id, 'EX', job.key_ttl) end
  for field, value in pairs(job.fields or {}) do
    redis.call('HSET', record, field, value)
    if field == 'replay_of' and redis.call('EXISTS', job_key(value)) == 1 then
      redis.pcall('HSET', job_key(value), 'replayed_by', id)
      local changed = job.changed and ', with other values of: ' .. job.changed or ''
      local before = redis.pcall('HGET', job_key(value), 'audit')
      before = type(before) == 'string' and before or nil
      local after = add_audit(before, 'replay', job.fields.by or '', 'as job ' .. id .. changed)
      redis.pcall('HSET', job_key(value), 'audit', after)
    end
  end
  -- Fields that are the same for every new job are left out: a million may wait in Redis, and a field costs 90 bytes.
  redis.call('HSET', record, 'spec', spec, 'queue', job.queue, 'holder', '', 'created_at', stamp)
  if job.task_id then redis.call('HSET', record, 'task_id', job.task_id) end
  local due = start_time(job)
  if message ~= '' then
    redis.call('HSET', record, 'message', message)
    -- Only jobs of foreign producers can be revoked before they have a record. The worker that claims it ends it.
    if redis.pcall('ZREM', P .. ':revoked', id) == 1 then
      redis.call('HSET', record, 'cancel', 'revoked through Celery')
      due = nil
    end
  end
  redis.call('ZADD', P .. ':jobs', stamp, id)
  if job.batch then
    redis.call('HSET', record, 'batch', job.batch, 'index', job.index)
    add_to_batch(job.batch, 'size', 1)
    if job.input then note_input(job) end
  end
  local state = first_state(id, job, found, due)
  move(id, nil, state)
  if job.received then acknowledge(id, state, job.received) end
  -- The record alone makes the job: if Redis refuses the message (its user may not write to the queue), workers still
  -- find the job as one whose message was lost.
  if wakeup ~= '' and state == 'QUEUED' then redis.pcall('LPUSH', job.queue, wakeup) end
  return {1, id, state}
end

local answers = {}
for nth, job in ipairs(args.jobs) do
  -- Since Redis 7.2 the clock does not advance within a transaction. Times a microsecond apart keep the jobs in order.
  stamp = string.format('%.6f', now + (nth - 1) / 1000000)
  answers[nth] = create(job, ARGV[3 * nth - 1], ARGV[3 * nth], ARGV[3 * nth + 1])
end
return answers
