-- One flush of one partition: compare, validate, then write. Redis isolates a script but does not take back what a failing
-- one has written, so nothing after the last `refuse` can fail. Counts were checked by whoever sends them: an HSET fails on
-- the type of a key or a field without a value, never on what a field holds, and a look at each costs half as much again
-- as storing it.
--
-- KEYS[1]  live: string, the generation that readers see
-- KEYS[2]  building: string, the generation that is counted to take its place. Where there is one it is the current one,
--          else the live one is
-- KEYS[3]  meta of the expected generation; the same as KEYS[4] when none is expected
-- KEYS[4]  meta of the generation that is written
-- KEYS[5]  retired: set of generations that were replaced
-- KEYS[6]  changes: stream of what the last flushes wrote to the generation, for readers that hold the rest. Nothing
--          depends on it but they, and they see it when something is missing
-- KEYS[…]  the hours that are written, then the nights that are written, then the hours and nights that are dropped
--
-- ARGV[1]  expected generation, 32 hexadecimal digits; empty: there may be none; ?: one that is none
-- ARGV[2]  expected next offset, a colon, and expected number of lost records; empty: whatever is left of the expected generation is replaced by another one
-- ARGV[3]  generation that is written, and current afterwards
-- ARGV[4]  live or beside: what it is afterwards
-- ARGV[5]  number of meta fields
-- ARGV[6]  number of hours that are written
-- ARGV[7]  number of nights that are written
-- ARGV[8]  number of keys that are dropped
-- ARGV[9…] meta: name, value, …; then per hour and per night: number of counts, then field, count, …
--
-- Returns {1}: applied; or {0, current generation, its next offset}: something else is stored, nothing was changed. Both
-- are empty when there is none; the offset is empty when it is neither of the two whose meta is in KEYS.
-- An error reply TFREFUSED: the flush is malformed; TFDAMAGED: what is stored of the generation that it goes on with is.
-- Nothing was changed.
--
-- Numbers stay strings: Lua's are doubles, and 2^53 + 1 would equal 2^53.

local RETIRED, CHANGES = 5, 6
local HEAD = 6 -- keys before the hours
local SIZES = 8 -- arguments before the meta record
local CHUNK = 2000 -- arguments per HSET, far below the limit of unpack (about 8,000)

local function refuse(what)
  return redis.error_reply('TFREFUSED ' .. what)
end

local function damaged(what)
  return redis.error_reply('TFDAMAGED ' .. what)
end

local function is_generation(text)
  return #text == 32 and string.find(text, '^[0-9a-f]+$') ~= nil
end

local function natural(text)
  return text ~= nil and (text == '0' or string.find(text, '^[1-9]%d*$') ~= nil)
    and (#text < 19 or (#text == 19 and text < '4611686018427387904'))
end

local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local function is_day(text)
  return string.find(text, '^%d%d%d%d%-%d%d%-%d%d$') ~= nil
end

local function is_time(text)
  return #text <= 20 and string.find(text, '^%-?%d+$') ~= nil
end

local META = {
  version = natural, next_offset = natural, base_offset = natural, rebuilding_until = natural, dedup_evicted = natural,
  seen = natural, control = natural, rejected = natural, duplicate = natural, late = natural, counted = natural,
  expired = natural, late_expired = natural, rollbacks = natural, rebuilds = natural, base_day = is_day, base_night = is_day,
  append_time = is_time, drift_start = is_time, drift_end = is_time, lost = natural, lost_start = is_time, lost_end = is_time,
  fingerprint = function(text) return #text <= 64 and string.find(text, '^%x*$') ~= nil end,
}
local META_FIELDS = 24

if #KEYS < HEAD or #ARGV < SIZES then return refuse('keys or arguments are missing') end

local function type_of(key)
  return redis.call('TYPE', key).ok
end

local function is_of_type(key, wanted)
  local found = type_of(key)
  return found == wanted or found == 'none'
end

local function foreign(key)
  return 'key ' .. key .. ' is a ' .. type_of(key) .. ': another program writes into our key space'
end

local function next_offset(meta)
  return is_of_type(meta, 'hash') and redis.call('HGET', meta, 'next_offset') or ''
end

local function position(meta)
  local fields = redis.call('HMGET', meta, 'next_offset', 'lost')
  return (fields[1] or '') .. ':' .. (fields[2] or '')
end

for i = 1, 2 do
  if not is_of_type(KEYS[i], 'string') then return refuse(foreign(KEYS[i])) end
end

-- Compare.
local expected, expected_position, generation, stage = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local live, building = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
local current = building or live
for i = 4, #KEYS do
  -- What is left of a generation that is replaced may be anything.
  if i ~= RETIRED and i ~= CHANGES and not is_of_type(KEYS[i], 'hash') then
    if current == generation then return damaged(foreign(KEYS[i])) end
    return refuse(foreign(KEYS[i]))
  end
end
if current then
  local offset = ''
  if current == expected then
    offset = next_offset(KEYS[3])
  elseif current == generation then
    offset = next_offset(KEYS[4])
  end
  local as_expected = current == expected and offset ~= '' and position(KEYS[3]) == expected_position
  if expected_position == '' and expected ~= '' then
    as_expected = current == expected or (expected == '?' and not is_generation(current))
    if as_expected and current == generation then return refuse('a damaged generation is not gone on with') end
  end
  if not as_expected then return {0, current, offset} end
elseif expected ~= '' then
  return {0, '', ''}
end

-- Validate.
if not is_generation(generation) then return refuse('argument 3 is no generation') end
if stage ~= 'live' and stage ~= 'beside' then return refuse('argument 4 is neither live nor beside') end
if stage == 'beside' and not building and current == generation then
  return refuse('a live generation does not go back beside another one')
end
local prefix = string.sub(KEYS[4], 1, -5)
if string.sub(KEYS[4], -38) ~= ':' .. generation .. ':meta' then return refuse('key 4 is not of the generation') end
local tag = string.sub(KEYS[4], 1, -39)
for i, name in pairs({ [1] = ':live', [2] = ':building', [RETIRED] = ':retired' }) do
  if KEYS[i] ~= tag .. name then return refuse('key ' .. i .. ' is not of the partition') end
end
if KEYS[CHANGES] ~= prefix .. 'changes' then return refuse('key ' .. CHANGES .. ' is not of the generation') end
local size = {}
for i = 5, SIZES do
  if not natural(ARGV[i]) or #ARGV[i] > 5 then return refuse('argument ' .. i .. ' is no small number') end
  size[i] = tonumber(ARGV[i])
end
local metas, hours, nights, dropped = size[5], size[6], size[7], size[8]
if #KEYS ~= HEAD + hours + nights + dropped then return refuse('the number of keys is not what the arguments say') end

local meta = {}
local meta_end = SIZES + 2 * metas
if metas ~= META_FIELDS then return refuse('the meta record has not ' .. META_FIELDS .. ' fields') end
if #ARGV < meta_end then return refuse('the meta record is cut short') end
for i = SIZES + 1, meta_end, 2 do
  local valid = META[ARGV[i]]
  if valid == nil or meta[ARGV[i]] ~= nil then return refuse('argument ' .. i .. ' is no meta field, or comes twice') end
  if not valid(ARGV[i + 1]) then return refuse('argument ' .. (i + 1) .. ' is no value for ' .. ARGV[i]) end
  meta[ARGV[i]] = ARGV[i + 1]
end

local written = {}
local blocks = {} -- first and last argument of each hash that is written
local at = meta_end + 1
for i = HEAD + 1, HEAD + hours + nights do
  local kind = i > HEAD + hours and 'l:' or 'h:'
  if string.sub(KEYS[i], 1, #prefix + 2) ~= prefix .. kind then return refuse('key ' .. i .. ' is not of the generation') end
  if written[KEYS[i]] then return refuse('key ' .. i .. ' comes twice') end
  written[KEYS[i]] = true
  if not natural(ARGV[at]) or #ARGV[at] > 5 or ARGV[at] == '0' then
    return refuse('argument ' .. at .. ' is no number of counts')
  end
  local first = at + 1
  local last = at + 2 * tonumber(ARGV[at])
  if last > #ARGV then return refuse('the counts are cut short') end
  blocks[#blocks + 1] = {KEYS[i], first, last}
  at = last + 1
end
if at ~= #ARGV + 1 then return refuse('there are more arguments than counts') end
for i = HEAD + 1 + hours + nights, #KEYS do
  local kind = string.sub(KEYS[i], 1, #prefix + 2)
  if kind ~= prefix .. 'h:' and kind ~= prefix .. 'l:' then return refuse('key ' .. i .. ' is not of the generation') end
  if written[KEYS[i]] then return refuse('key ' .. i .. ' is both written and dropped') end
end

if current == generation then
  -- An expiry moves no offset, so a writer that missed one is told by what never goes back.
  local stored = redis.call('HMGET', KEYS[4], 'base_day', 'base_night', 'expired', 'late_expired')
  for i = 1, 4 do
    local name = ({'base_day', 'base_night', 'expired', 'late_expired'})[i]
    if not stored[i] or not META[name](stored[i]) then return damaged('the stored meta record has no good ' .. name) end
  end
  if meta.base_day < stored[1] or meta.base_night < stored[2]
    or less(meta.expired, stored[3]) or less(meta.late_expired, stored[4]) then
    return {0, current, next_offset(KEYS[4])}
  end
elseif redis.call('EXISTS', KEYS[4]) == 1 then
  return refuse('generation ' .. generation .. ' is not new')
end

-- Write.
for i = HEAD + 1 + hours + nights, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
local function retire(old)
  if old and old ~= generation and is_generation(old) and is_of_type(KEYS[RETIRED], 'set') then
    redis.call('SADD', KEYS[RETIRED], old)
  end
end
retire(building)
if stage == 'live' then
  retire(live)
  redis.call('SET', KEYS[1], generation)
  if building then redis.call('DEL', KEYS[2]) end
else
  redis.call('SET', KEYS[2], generation)
end
for _, block in ipairs(blocks) do
  for first = block[2], block[3], CHUNK do
    redis.call('HSET', block[1], unpack(ARGV, first, math.min(first + CHUNK - 1, block[3])))
  end
end
redis.call('HSET', KEYS[4], unpack(ARGV, SIZES + 1, meta_end))

-- Remember. As many entries are kept as `changes_kept` says.
if not is_of_type(KEYS[CHANGES], 'stream') then redis.call('UNLINK', KEYS[CHANGES]) end
for _, block in ipairs(blocks) do
  local kept = math.max(16, math.min(128, math.floor(128000 / ((block[3] - block[2] + 1) / 2))))
  local changes = table.concat(ARGV, ' ', block[2], block[3])
  redis.pcall('XADD', KEYS[CHANGES], 'MAXLEN', kept, '*', string.sub(block[1], #prefix + 1), changes)
end
redis.pcall('XADD', KEYS[CHANGES], 'MAXLEN', 128, '*', 'at', meta.next_offset .. ':' .. meta.lost)
return {1}
