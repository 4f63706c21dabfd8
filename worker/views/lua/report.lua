-- An office's latest report. KEYS: 1 reports (hash); ARGV: 1 office, 2 its place (boundary, revision), 3 the report, 4 ms to live
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and string.match(old, '^[^\30]*') > ARGV[2] then return 'older' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '\30' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'ok'
