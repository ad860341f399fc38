-- Take one free slot for a job and lay its payload down, all or nothing.
-- KEYS[1] job hash, KEYS[2] the bridge's lease (see fence.lua); then per candidate: credits set, lease key
-- ARGV: job_id, attempt, payload, bridge, deadline (ms, 0 = none), ttl (s), then per candidate: worker id, slots;
-- then: prefix of credits sets, the bridge's token
-- Returns the worker whose slot was taken, or "" when none is free.
local n, prefix = (#KEYS - 2) / 2, ARGV[#ARGV - 1]
-- A job that is sent again gives its old slot back, whoever held it: one job, one credit.
local old = redis.call('HGET', KEYS[1], 'credit')
if old then redis.call('SREM', prefix .. old, ARGV[1]) end
for i = 1, n do
  local held, lease = KEYS[2 * i + 1], KEYS[2 * i + 2]
  local worker, slots = ARGV[5 + 2 * i], tonumber(ARGV[6 + 2 * i])
  if redis.call('EXISTS', lease) == 1 and redis.call('SCARD', held) < slots then
    redis.call('SADD', held, ARGV[1])
    redis.call('HSET', KEYS[1], 'attempt', ARGV[2], 'payload', ARGV[3], 'bridge', ARGV[4],
      'deadline', ARGV[5], 'credit', worker, 'worker', '')
    redis.call('EXPIRE', KEYS[1], ARGV[6])
    return worker
  end
end
return ''
