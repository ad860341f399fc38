-- Publish events of a private job: only while its attempt is the current one, and each sealed frame only once.
-- KEYS[1] job hash, KEYS[2] the reply's frames, KEYS[3] replay stream, KEYS[4] channel, KEYS[5] pieces of large replies
-- ARGV: job_id, attempt, first frame in the data, frame after the last one, ttl (s), maxlen, data, ttl of the pieces,
-- then field and value of each piece
-- Returns 1 published, 0 these frames are out already, -1 not the current attempt, -2 not the next frames.
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return -1 end
local first, after = tonumber(ARGV[3]), tonumber(ARGV[4])
if after > first then
  local row = redis.call('HMGET', KEYS[2], 'job', 'next')
  local due = tonumber(row[2] or 0)
  if row[1] and row[1] ~= ARGV[1] then return -2 end
  if after <= due then return 0 end
  if first ~= due then return -2 end
  redis.call('HSET', KEYS[2], 'job', ARGV[1], 'next', after)
  redis.call('EXPIRE', KEYS[2], ARGV[5])
end
for i = 9, #ARGV, 2 do redis.call('HSET', KEYS[5], ARGV[i], ARGV[i + 1]) end
if #ARGV > 8 then redis.call('EXPIRE', KEYS[5], ARGV[8]) end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'b', ARGV[7])
redis.call('PUBLISH', KEYS[4], ARGV[7])
return 1
