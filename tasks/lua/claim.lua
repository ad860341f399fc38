-- A worker takes a dispatched job: compare-and-set on (job, attempt, unclaimed, deadline).
-- KEYS[1] job hash, KEYS[2] the claimer's credits set
-- ARGV: job_id, attempt, worker id, prefix of credits sets
-- Returns {"ok", payload}, or {"gone"|"stale"|"taken"|"expired"}.
local row = redis.call('HMGET', KEYS[1], 'attempt', 'worker', 'deadline', 'credit', 'payload')
if not row[1] then return {'gone'} end
if row[1] ~= ARGV[2] then return {'stale'} end
if row[2] ~= '' then return {'taken'} end
local now = redis.call('TIME')
local deadline = tonumber(row[3])
if deadline > 0 and now[1] * 1000 + now[2] / 1000 > deadline then return {'expired'} end
if row[4] ~= ARGV[3] then redis.call('SREM', ARGV[4] .. row[4], ARGV[1]) end
-- also when the credit is ours already: a worker that has just started emptied its set
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'worker', ARGV[3], 'credit', ARGV[3])
return {'ok', row[5]}
