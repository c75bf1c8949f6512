-- Deletes keys of a retired generation, a few at a time.
--
-- KEYS[1]  live: string, the generation that readers see
-- KEYS[2]  retired: set of generations that were replaced
-- KEYS[3…] keys of the generation
--
-- ARGV[1]  the generation
-- ARGV[2]  1: these are the last ones, and it is forgotten
--
-- Returns the number of keys that were deleted, or -1: the server went back to when the generation was live, and nothing
-- was deleted. The compare and the deletions are one step, so what readers see is never touched.

if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SREM', KEYS[2], ARGV[1])
  return -1
end
local deleted = 0
for i = 3, #KEYS do
  deleted = deleted + redis.call('UNLINK', KEYS[i])
end
if ARGV[2] == '1' then redis.call('SREM', KEYS[2], ARGV[1]) end
return deleted
