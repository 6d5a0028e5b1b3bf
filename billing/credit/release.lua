-- release: a call is over and costs nothing: its hold goes, its channels are freed.
--
-- KEYS[1] h:<call>   KEYS[2] holds   KEYS[3] ended
--         and, under the same hash tag, the w:<wallet> and a:<account> that the hold names
-- ARGV[1] call id    ARGV[2] now, ms   ARGV[3] forget calls that ended before this, ms
-- ARGV[4] "charged" where every posting of the call was applied: what is still held of it then waits for nothing
-- Results "released"; "no_hold" where there is no open hold: one that is finished waits for its postings and stays
--         (nothing is changed then, save that the call is remembered as over, so that no late hold opens it again).
-- Keeps   held of a wallet = the sum of that wallet's shares in all holds; channels are freed once. Wallets that got
--         money back are told on the channel wake. What an account's day was charged with this call (d:<wallet>) is
--         taken off it, while that day lasts.

local call, now_ms, forget_ms = ARGV[1], ARGV[2], ARGV[3]
local base = string.sub(KEYS[2], 1, -6)

local function whole(number)
  return string.format('%.0f', number)
end

redis.call('ZADD', KEYS[3], 'NX', now_ms, call)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. forget_ms, 'LIMIT', 0, 8)) do
  redis.call('ZREM', KEYS[3], old)
end
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'open' and not (state == 'finished' and ARGV[4] == 'charged') then
  return 'no_hold'
end

local woken = {}
for wallet_id, account_id in string.gmatch(redis.call('HGET', KEYS[1], 'shares'), '(%d+):(%d+),') do
  local own = redis.call('HGET', KEYS[1], 'w:' .. wallet_id)
  if own and own ~= '0' then
    redis.call('HINCRBY', base .. 'w:' .. wallet_id, 'held', '-' .. own)
    woken[#woken + 1] = wallet_id
    local day, part = string.match(redis.call('HGET', KEYS[1], 'd:' .. wallet_id) or '', '^(%d+):(%d+)$')
    local key = day and base .. 'a:' .. account_id
    local today, spent = string.match(key and redis.call('HGET', key, 'today') or '', '^(%d+):(%d+)$')
    if today and today == day then
      local gone = state == 'open' and tonumber(part) or math.min(tonumber(part), tonumber(own))
      redis.call('HSET', key, 'today', today .. ':' .. whole(math.max(tonumber(spent) - gone, 0)))
    end
  end
end
if state == 'open' then
  for account_id in string.gmatch(redis.call('HGET', KEYS[1], 'accounts'), '(%d+),') do
    redis.call('HINCRBY', base .. 'a:' .. account_id, 'calls', '-1')
  end
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], call)
for _, wallet_id in ipairs(woken) do
  redis.call('PUBLISH', base .. 'wake', wallet_id)
end
return 'released'
