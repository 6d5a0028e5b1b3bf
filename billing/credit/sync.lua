-- sync: set a wallet from SQL, unless Redis has applied more postings already.
--
-- KEYS[1] w:<wallet>   and, under the same hash tag, the channel wake
-- ARGV[1] wallet id    ARGV[2] balance   ARGV[3] sequence number   ARGV[4] credit limit (micro-units, each within 2^53 - 1)
-- Results "synced", or "ahead" where Redis is ahead: nothing is changed then.
-- Keeps   seq never goes back; held is left alone: it is the sum of the shares in all holds, which SQL does not know.
--         A share whose posting is within the new balance is dropped when that posting is told again ("seen").
--         A wallet that is new or has grown is told on the channel wake.

local base = string.sub(KEYS[1], 1, -(3 + #ARGV[1]))

local kept = redis.call('HMGET', KEYS[1], 'balance', 'seq', 'credit')
if kept[2] and tonumber(kept[2]) > tonumber(ARGV[3]) then
  return 'ahead'
end
redis.call('HSET', KEYS[1], 'balance', ARGV[2], 'seq', ARGV[3], 'credit', ARGV[4])
redis.call('HSETNX', KEYS[1], 'held', '0')
if not kept[2] or tonumber(ARGV[2]) > tonumber(kept[1]) or tonumber(ARGV[4]) > tonumber(kept[3]) then
  redis.call('PUBLISH', base .. 'wake', ARGV[1])
end
return 'synced'
