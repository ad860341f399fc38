-- Give a job's slot back and forget the job, if it is still at this attempt. Idempotent.
-- KEYS[1] job hash; ARGV: job_id, attempt, prefix of credits sets
-- Returns 1 when the job was there at this attempt, else 0.
local row = redis.call('HMGET', KEYS[1], 'attempt', 'credit')
if not row[1] or row[1] ~= ARGV[2] then return 0 end
redis.call('SREM', ARGV[3] .. row[2], ARGV[1])
redis.call('DEL', KEYS[1])
return 1
