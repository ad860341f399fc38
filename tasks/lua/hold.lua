-- Take or renew a lease that at most one process may hold: compare-and-set on the holder.
-- KEYS[1] lease; ARGV: token, milliseconds (0 = give it back)
-- Returns 1 when it is ours (now, or to give back), else 0.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
