-- One lane's part of an answer; only reads. KEYS as in write.lua: 1 owner, 2 dues, 3 facets, 4 handoffs
-- ARGV: 1 now (UTC ms), 2 how many of each, 3..5 wanted offices, severities, plans: msgpack lists, empty ones want all
-- Gives msgpack: [owner's fields, [[facet, live, broken, paused], ...], coming, broken, handoffs, all handoffs]; coming and
-- broken are [member, score, member, score, ...], handoffs the same with tickets. "" where there is nothing.
local owner = redis.call('HMGET', KEYS[1], 'about', 'clock', 'at', 'filled')
if not owner[1] then return '' end
local now, limit, PAUSED = tonumber(ARGV[1]), tonumber(ARGV[2]), 9999999999999

local wants, narrow = {}, false
for place = 1, 3 do
  local names = cmsgpack.unpack(ARGV[place + 2])
  if #names > 0 then
    narrow, wants[place] = true, {}
    for _, name in ipairs(names) do wants[place][name] = true end
  end
end
local function wanted(facet)
  local office, severity, plan = string.match(facet, '^([^\31]*)\31([^\31]*)\31(.*)$')
  return (not wants[1] or wants[1][office]) and (not wants[2] or wants[2][severity]) and (not wants[3] or wants[3][plan])
end

local counts, chosen, is_chosen = {}, {}, {}
local some_paused = redis.call('ZCOUNT', KEYS[2], PAUSED, PAUSED) > 0
for _, facet in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local of = KEYS[3] .. ':' .. facet
  local live = redis.call('ZCARD', of)
  local paused = some_paused and redis.call('ZCOUNT', of, PAUSED, PAUSED) or 0
  counts[#counts + 1] = {facet, live, redis.call('ZCOUNT', of, '-inf', '(' .. now), paused}
  if narrow and wanted(facet) then
    chosen[#chosen + 1] = {of, live}
    is_chosen[facet] = true
  end
end

-- Broken: the latest first. Coming: the next first.
local function range(key, broken, from, count)
  if broken then return redis.call('ZREVRANGEBYSCORE', key, '(' .. now, '-inf', 'WITHSCORES', 'LIMIT', from, count) end
  return redis.call('ZRANGEBYSCORE', key, now, '+inf', 'WITHSCORES', 'LIMIT', from, count)
end

-- A wide filter finds enough among the nearest dues; a narrow one in the few facets that it wants.
local function scanned(broken)
  local found, size = {}, math.max(100, 4 * limit)
  for page = 0, 4 do
    local some = range(KEYS[2], broken, page * size, size)
    for place = 1, #some, 2 do
      if is_chosen[string.match(some[place], '^[^\30]*')] then
        found[#found + 1], found[#found + 2] = some[place], some[place + 1]
        if #found == 2 * limit then return found end
      end
    end
    if #some < 2 * size then return found end
  end
  return nil
end

local function merged(broken)
  local pairs_, found = {}, {}
  for _, one in ipairs(chosen) do
    local some = range(one[1], broken, 0, limit)
    for place = 1, #some, 2 do pairs_[#pairs_ + 1] = {some[place], some[place + 1], tonumber(some[place + 1])} end
  end
  table.sort(pairs_, function(a, b)
    if a[3] ~= b[3] then return (a[3] < b[3]) ~= broken end
    return a[1] < b[1]
  end)
  for place = 1, math.min(limit, #pairs_) do
    found[2 * place - 1], found[2 * place] = pairs_[place][1], pairs_[place][2]
  end
  return found
end

local function nearest(broken)
  if not narrow then return range(KEYS[2], broken, 0, limit) end
  local cost = 0
  for _, one in ipairs(chosen) do cost = cost + math.min(one[2], limit) end
  return (cost > 4 * limit and scanned(broken)) or merged(broken)
end

return cmsgpack.pack({owner, counts, nearest(false), nearest(true),
  redis.call('ZRANGE', KEYS[4], 0, limit - 1, 'WITHSCORES'), redis.call('ZCARD', KEYS[4])})
