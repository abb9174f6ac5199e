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

-- Returns which rule of a batch its jobs have broken so far, in words; nil where none is. Jobs that were CANCELLED or
-- SKIPPED are no failures, but the quorum cannot count on them. A share needs the total. Jobs that a call is about to
-- replace ("spared") break no rule.
local function broken_rule(b, total, spare)
  local failed = to_number(b.failed) - (spare and to_number(b.spared_failed) or 0)
  local text, share = string.match(b.max_failures or '', '^([%d.]+)(%%?)$')
  local most = tonumber(text or '')
  if most and share == '' and failed > most then
    return 'max_failures: ' .. failed .. ' jobs failed, at most ' .. text .. ' may'
  end
  if not total then return nil end
  if most and share == '%' and failed > total * most / 100 + 1e-9 then
    return 'max_failures: ' .. failed .. ' of ' .. total .. ' jobs failed, at most ' .. text .. '% may'
  end
  local lost = failed + to_number(b.cancelled_jobs) + to_number(b.skipped) - (spare and to_number(b.spared_others) or 0)
  if b.quorum and total - lost < b.needed then
    return 'min_success: ' .. lost .. ' of ' .. total .. ' jobs did not succeed, ' .. b.needed .. ' must'
  end
  return nil
end

local function batch_facts(batch)
  local f = read_fields(batch_key(batch), 'total', 'done', 'min_success', 'n:SUCCEEDED', 'cancelled', 'stopped',
    'max_failures', 'n:FAILED', 'n:CANCELLED', 'n:SKIPPED', 'left', 'size', 'spared_failed', 'spared_others')
  local total = tonumber(f[1] or '')
  local quorum = tonumber(f[3] or '')
  return {total = total, done = f[2], quorum = quorum, good = f[4], cancelled = f[5], stopped = f[6],
    max_failures = f[7], failed = f[8], cancelled_jobs = f[9], skipped = f[10], left = to_number(f[11]), size = f[12],
    spared_failed = f[13], spared_others = f[14],
    needed = total and math.ceil(total * (quorum or 1) - 1e-9) + 0}  -- ceil may return -0
end

-- No job of a batch is added or started any more; a worker cancels those that are left. Its state will be FAILED.
local function stop_batch(batch, b, why)
  redis.call('HSET', batch_key(batch), 'cancelled', 'stopped by ' .. why, 'stopped', 1)
  redis.call('HSETNX', batch_key(batch), 'total', b.size or 0)
  redis.call('SADD', P .. ':cancelling', batch)
  redis.call('PUBLISH', C .. ':available', 'cancelling')
end

-- Ends a batch whose jobs have all been submitted and have all ended. Returns its state and why, or nothing. One whose
-- jobs have broken a rule is stopped before that; the success of a job ("by") breaks none.
local function end_batch(batch, by)
  local b, ended = batch_facts(batch), redis.pcall('LLEN', batch_key(batch) .. ':ended')
  if b.done or type(ended) == 'table' then return nil end
  local open = not b.total or ended - b.left < b.total
  local broken = not b.cancelled and broken_rule(b, b.total, open) or nil
  if open then
    if not broken or by == 'SUCCEEDED' then return nil end
    stop_batch(batch, b, broken)
    -- A submission that is under way is stopped too: what there is may be all, and have ended.
    if ended - b.left < to_number(b.total or b.size) then return nil end
    b = batch_facts(batch)
  end
  local state = to_number(b.good) >= b.needed and 'SUCCEEDED' or 'FAILED'
  local why = to_number(b.good) .. ' of ' .. b.total .. ' jobs succeeded, ' .. b.needed .. ' needed'
  if b.cancelled then
    state, why = b.stopped and 'FAILED' or 'CANCELLED', b.cancelled
  elseif broken and string.sub(broken, 1, 3) == 'max' then
    state, why = 'FAILED', broken
  end
  redis.call('HSET', batch_key(batch), 'done', 1, 'state', state, 'ended_at', stamp, 'reason', why)
  redis.call('PUBLISH', C .. ':changes:batch:' .. batch, 'done')
  redis.call('SREM', P .. ':speculating', batch)
  return state, why
end

-- The jobs of a batch that have not succeeded break none of its rules until they are replaced. A call replaces many of
-- them in parts, and those that are left must not stop what was started again. If the call dies, all of them count when
-- the batch ends.
local function spare_ended(batch)
  local b = batch_facts(batch)
  local others = to_number(b.cancelled_jobs) + to_number(b.skipped)
  redis.call('HSET', batch_key(batch), 'spared_failed', to_number(b.failed), 'spared_others', others)
end

-- From now on all jobs of a batch count for its rules.
local function judge_all(batch) redis.call('HDEL', batch_key(batch), 'spared_failed', 'spared_others') end

-- A batch that has ended takes jobs again, and ends anew with the last of them. A cancellation is lifted. Reduces over
-- its outputs of before are of an older generation.
local function reopen_batch(batch)
  add_to_batch(batch, 'generation', 1)
  redis.call('HDEL', batch_key(batch), 'done', 'state', 'ended_at', 'reason', 'cancelled', 'stopped')
  redis.call('SREM', P .. ':cancelling', batch)
  if redis.call('HEXISTS', batch_key(batch), 'speculate') == 1 then redis.call('SADD', P .. ':speculating', batch) end
end

-- An ended job counts in its batch no more, or counts again (by = -1). It stays on the list of those that ended.
local function leave_batch(batch, state, by)
  add_to_batch(batch, 'n:' .. state, -by)
  add_to_batch(batch, 'size', -by)
  add_to_batch(batch, 'left', by)
  local spared = state == 'FAILED' and 'spared_failed' or 'spared_others'
  if by > 0 and state ~= 'SUCCEEDED' and to_number(read_fields(batch_key(batch), spared)[1]) > 0 then
    add_to_batch(batch, spared, -by)
  end
end
