-- Batches: how many of their jobs may be active at once, and their end.

-- Returns how many more jobs of a batch may become active; 1 if there is no limit.
local function free_slots(batch)
  local b = read_fields(batch_key(batch), 'max_parallel', 'active', 'cancelled')
  if b[3] then return 0 end
  local most = to_number(b[1])
  if most == 0 then return 1 end
  return most - to_number(b[2])
end

-- Makes a job one of its batch's active ones, if there is room. Otherwise the job waits for a slot: returns false.
local function take_slot(id, batch)
  if free_slots(batch) <= 0 then
    redis.call('ZADD', batch_key(batch) .. ':waiting', to_number(redis.call('HGET', job_key(id), 'index')), id)
    return false
  end
  add_to_batch(batch, 'active', 1)
  redis.call('HSET', job_key(id), 'active', 1)
  return true
end

-- Queues a WAITING job. No message announces it.
local function queue_waiting(id)
  set_state(id, 'WAITING', 'QUEUED')
  mark_ready(id)
end

-- Counts one more condition of a waiting job as met. With the last one the job is queued, if its batch has room.
local function condition_met(id)
  local needs = redis.pcall('HINCRBY', job_key(id), 'needs', -1)
  if type(needs) ~= 'number' or needs > 0 then return end
  local batch = redis.call('HGET', job_key(id), 'batch')
  if not batch or take_slot(id, batch) then queue_waiting(id) end
end

-- Frees the slot of a job that is no longer active, and gives free slots to the next jobs that wait.
local function give_slot_back(id, batch)
  if redis.call('HDEL', job_key(id), 'active') == 1 then add_to_batch(batch, 'active', -1) end
  while free_slots(batch) > 0 do
    local next = redis.pcall('ZPOPMIN', batch_key(batch) .. ':waiting')[1]
    if not next then break end
    if not is_no_record(next) and read_fields(job_key(next), 'state')[1] == 'WAITING' and take_slot(next, batch) then
      queue_waiting(next)
    end
  end
end

-- Ends a batch if all its jobs have been submitted and have ended. Returns its state and the reason, or nothing.
local function end_batch(batch)
  local b = read_fields(batch_key(batch), 'total', 'done', 'min_success', 'n:SUCCEEDED', 'cancelled')
  local total, ended = tonumber(b[1] or ''), redis.pcall('LLEN', batch_key(batch) .. ':ended')
  if not total or b[2] or type(ended) == 'table' or ended < total then return nil end
  local needed = math.ceil(total * (tonumber(b[3] or '1') or 1) - 1e-9) + 0  -- ceil may return -0
  local good = to_number(b[4])
  local state = good >= needed and 'SUCCEEDED' or 'FAILED'
  local why = good .. ' of ' .. b[1] .. ' jobs succeeded, ' .. needed .. ' needed'
  if b[5] then state, why = 'CANCELLED', b[5] end
  redis.call('HSET', batch_key(batch), 'done', 1, 'state', state, 'ended_at', stamp, 'reason', why)
  redis.call('PUBLISH', P .. ':changes:batch:' .. batch, 'done')
  redis.call('SREM', P .. ':speculating', batch)
  return state, why
end
