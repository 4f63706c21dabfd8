-- Some of a lane's tickets. KEYS: 1 tickets; ARGV: 1 cursor. Gives msgpack: [next cursor, "0": all were given; tickets].
local page, names = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 500), {}
for place = 1, #page[2], 2 do names[#names + 1] = page[2][place] end
return cmsgpack.pack({page[1], names})
