-- Give a job's slot back and forget the job, if it is still at this attempt. Idempotent.
-- KEYS[1] job hash; for bridges KEYS[2] their lease (see fence.lua)
-- ARGV: job_id, attempt, prefix of credits sets, the worker that calls ("": a bridge), the bridge's token
-- Returns 1 when the job was there at this attempt, else 0.
local mine = ARGV[4] ~= '' and ARGV[3] .. ARGV[4]
local row = redis.call('HMGET', KEYS[1], 'attempt', 'credit')
if not row[1] then
  -- Redis lost the job in a restart, and the worker wrote its credit again while it ran on
  if mine then redis.call('SREM', mine, ARGV[1]) end
  return 0
end
if row[1] ~= ARGV[2] then
  -- an old attempt's worker may have written its credit again after its lease lapsed; the new attempt holds another
  if mine and mine ~= ARGV[3] .. row[2] then redis.call('SREM', mine, ARGV[1]) end
  return 0
end
redis.call('SREM', ARGV[3] .. row[2], ARGV[1])
redis.call('DEL', KEYS[1])
return 1
