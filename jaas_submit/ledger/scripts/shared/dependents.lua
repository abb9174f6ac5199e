-- What follows from the end of a job: for its batch, its copy, and the jobs that come after it.

local function dependency_met(on, state)
  return on == 'finish' or (on == 'success') == (state == 'SUCCEEDED')
end

-- Handles the end of a job or batch: for its batch, for the job that it is a copy of, and for its own copy. If other
-- jobs come after it, it goes on the list "todo". The reason names the first end of the chain (root) and the last one,
-- not all between them.
local function job_ended(todo, one, state, why, root)
  if redis.call('EXISTS', P .. ':after:' .. one) == 1 then todo[#todo + 1] = {one, state, why, root} end
  local r = redis.call('HMGET', job_key(one), 'batch', 'copy_of', 'copied_by')
  local batch = r[1]
  if r[2] then
    add_to_batch(batch, 'copies', -1)
    give_slot_back(one, batch)
    local ended = copy_ended(one, r[2], state)
    if ended then job_ended(todo, r[2], ended, 'job ' .. r[2] .. ' is ' .. ended) end
  elseif batch then
    redis.pcall('ZREM', batch_key(batch) .. ':waiting', one)
    redis.pcall('RPUSH', batch_key(batch) .. ':ended', one)
    redis.call('PUBLISH', C .. ':changes:batch:' .. batch, one)
    give_slot_back(one, batch)
    local ended, reason = end_batch(batch, state)
    if ended then
      reason = 'batch ' .. batch .. ': ' .. reason .. (root and ' (' .. root .. ')' or '')
      job_ended(todo, 'batch:' .. batch, ended, reason, root)
    end
  end
  if r[3] and cancel_attempt(r[3], one, state) then
    job_ended(todo, r[3], 'CANCELLED', 'job ' .. r[3] .. ' is CANCELLED')
  end
end

-- Queues or skips the jobs that come after the ends on the list. One script does at most 250: with more, Redis would
-- serve nobody else for seconds. Workers continue with the rest, which P:pending_dependents keeps.
local function release_dependents(todo)
  local left = 250
  while left > 0 do
    if #todo == 0 then
      local kept = redis.pcall('RPOP', P .. ':pending_dependents')
      if type(kept) ~= 'string' then return end
      todo[1] = decode_list(kept)
    end
    local one, state, why, root = unpack(todo[#todo])
    local fine = type(one) == 'string' and type(state) == 'string' and type(why) == 'string'
    if type(root) ~= 'string' then root = nil end
    local entries = fine and redis.pcall('SPOP', P .. ':after:' .. one, left) or {}
    if #entries < left then todo[#todo] = nil end
    left = left - 1 - #entries
    for _, entry in ipairs(entries) do
      local other, on = string.match(entry, '^(.*)|(%a+)$')
      if other and not is_no_record(other) and read_fields(job_key(other), 'state')[1] == 'WAITING' then
        if dependency_met(on, state) then
          condition_met(other)
        else
          redis.call('HSET', job_key(other), 'detail', why, 'attempts', unstarted_attempt('SKIPPED', 'skipped', why))
          redis.call('ZREM', P .. ':deadlines', other)
          set_state(other, 'WAITING', 'SKIPPED', why)
          -- A worker has to report it to Celery.
          redis.call('ZADD', P .. ':unowned', stamp, other)
          local first = root or why
          job_ended(todo, other, 'SKIPPED', 'job ' .. other .. ' was skipped: ' .. first, first)
        end
      end
    end
  end
  for _, rest in ipairs(todo) do redis.call('RPUSH', P .. ':pending_dependents', cjson.encode(rest)) end
  if #todo > 0 then redis.call('PUBLISH', C .. ':available', 'pending_dependents') end
end

-- Carries out what follows from the end of a job, or of "batch:ID".
local function process_end(one, state, why)
  local todo = {}
  job_ended(todo, one, state, why or 'job ' .. one .. ' is ' .. state)
  if #todo > 0 then release_dependents(todo) end
end

-- Moves a job from one state to another. If the new one is an end, carries out what follows.
local function move(id, from, to, detail)
  set_state(id, from, to, detail)
  if ENDED[to] then process_end(id, to) end
end
