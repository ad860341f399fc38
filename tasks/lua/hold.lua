-- Take or renew a lease that at most one process may hold: compare-and-set on the holder.
-- KEYS[1] lease, KEYS[2] epoch: how often it has changed hands, kept as long as Redis keeps its data
-- ARGV: token, milliseconds (0 = give it back), the epoch the caller knows of
-- Returns {1, epoch} when it is ours (now, or to give back), else {0, epoch}. One that is free while the epoch is
-- older than what the caller knows is not given: Redis has lost its data, and the holder shall be the first to ask.
local holder, epoch = redis.call('GET', KEYS[1]), tonumber(redis.call('GET', KEYS[2]) or 0)
if holder and holder ~= ARGV[1] then return {0, epoch} end
if tonumber(ARGV[2]) == 0 then
  redis.call('DEL', KEYS[1])
  return {1, epoch}
end
if holder then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])  -- not SET: that is refused while Redis is full
  return {1, epoch}
end
if epoch < tonumber(ARGV[3]) then return {0, epoch} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('INCR', KEYS[2])}
