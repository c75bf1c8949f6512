-- Deletes keys of a retired generation, a few at a time.
--
-- KEYS[1]  live: string, the generation that readers see
-- KEYS[2]  building: string, the generation that is counted to take its place
-- KEYS[3]  retired: set of generations that were replaced
-- KEYS[4…] keys of the generation
--
-- ARGV[1]  the generation
-- ARGV[2]  1: these are the last ones, and it is forgotten
--
-- Returns the number of keys that were deleted, or -1: the server went back to when the generation was one of the two, and
-- nothing was deleted. The compare and the deletions are one step, so what readers see is never touched.

for i = 1, 2 do
  if redis.call('GET', KEYS[i]) == ARGV[1] then
    redis.call('SREM', KEYS[3], ARGV[1])
    return -1
  end
end
local deleted = 0
for i = 4, #KEYS do
  deleted = deleted + redis.call('UNLINK', KEYS[i])
end
if ARGV[2] == '1' then redis.call('SREM', KEYS[3], ARGV[1]) end
return deleted
