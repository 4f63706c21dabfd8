-- The lane's facets live on. KEYS: 1 facets; ARGV: 1 how long (ms). The other keys live on with each write.
for _, facet in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('PEXPIRE', KEYS[1] .. ':' .. facet, ARGV[1]) end
return 'ok'
