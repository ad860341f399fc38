-- Write an open job down for a successor, or strike it off.
-- KEYS[1] the bridge's open jobs, KEYS[2] its lease (see fence.lua)
-- ARGV: job_id, sealed entry ("" = strike it off), ttl (s), the bridge's token
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1
