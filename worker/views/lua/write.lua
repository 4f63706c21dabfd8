-- One lane's part of the board, written by its owner alone. All keys share the lane's hash tag.
-- KEYS: 1 owner (hash), 2 tickets (hash), 3 dues (zset), 4 facets (set; each has a zset of its own), 5 handoffs (zset)
-- ARGV: 1 "claim" or "write", 2 how far in the changelog the writer stands, 3 the writer's name, 4 what is told of it,
--       5 its clock, 6 the wall clock (both UTC ms), 7 how long keys live (ms), 8 "1" when every ticket was written,
--       9.. ticket, element, ticket, element, ...: "" for none, else msgpack: [entry, [[member, facet, score], ...], boundary or 0]
-- Gives "ok"; "missing": nothing is there, or not all that was written: claim, and write everything;
-- "refused": somebody who stands further in the changelog has written.
local stands, mine = redis.call('HMGET', KEYS[1], 'version', 'worker', 'tickets', 'timers'), tonumber(ARGV[2])
local kept = stands[1] and tonumber(stands[3]) == redis.call('HLEN', KEYS[2])
    and tonumber(stands[4]) == redis.call('ZCARD', KEYS[3])

if stands[1] then
  local version = tonumber(stands[1])
  local claims = ARGV[1] == 'claim'
  if mine < version or (mine == version and stands[2] ~= ARGV[3] and not claims) then return 'refused' end
end

if not kept then
  if ARGV[1] ~= 'claim' then return 'missing' end
  for _, facet in ipairs(redis.call('SMEMBERS', KEYS[4])) do redis.call('UNLINK', KEYS[4] .. ':' .. facet) end
  redis.call('UNLINK', unpack(KEYS))
  stands[3], stands[4] = 0, 0
end

local tickets, timers = tonumber(stands[3]), tonumber(stands[4])
for place = 9, #ARGV, 2 do
  local ticket, element = ARGV[place], ARGV[place + 1]
  local old = redis.call('HGET', KEYS[2], ticket)
  if old ~= element and (old or element ~= '') then
    if old then
      local gone = cmsgpack.unpack(old)
      for _, timer in ipairs(gone[2]) do
        local of = KEYS[4] .. ':' .. timer[2]
        timers = timers - redis.call('ZREM', KEYS[3], timer[1])
        if redis.call('ZREM', of, timer[1]) == 1 and redis.call('EXISTS', of) == 0 then
          redis.call('SREM', KEYS[4], timer[2])
        end
      end
      if gone[3] > 0 then redis.call('ZREM', KEYS[5], ticket) end
      if element == '' then
        tickets = tickets - redis.call('HDEL', KEYS[2], ticket)
      end
    end
    if element ~= '' then
      local new = cmsgpack.unpack(element)
      tickets = tickets + redis.call('HSET', KEYS[2], ticket, element)
      for _, timer in ipairs(new[2]) do
        local score = string.format('%.0f', timer[3])
        timers = timers + redis.call('ZADD', KEYS[3], score, timer[1])
        redis.call('ZADD', KEYS[4] .. ':' .. timer[2], score, timer[1])
        if redis.call('SADD', KEYS[4], timer[2]) == 1 then redis.call('PEXPIRE', KEYS[4] .. ':' .. timer[2], ARGV[7]) end
      end
      if new[3] > 0 then redis.call('ZADD', KEYS[5], string.format('%.0f', new[3]), ticket) end
    end
  end
end

redis.call('HSET', KEYS[1], 'version', ARGV[2], 'worker', ARGV[3], 'about', ARGV[4], 'clock', ARGV[5], 'at', ARGV[6],
  'filled', ARGV[8], 'tickets', tickets, 'timers', timers)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[7]) end
return 'ok'
