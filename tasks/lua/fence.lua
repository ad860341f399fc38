-- Before a script of a bridge: KEYS[2] the bridge's lease, last of ARGV: the token of who calls.
-- A process that was stopped past its lease must not touch the jobs of the one that succeeded it. A lease that
-- nobody holds is no obstacle: its owner is about to renew it.
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[#ARGV] then return false end
