-- finish: a call is over and costs exactly this: trim (or raise) its hold to it and free its channels.
--
-- KEYS[1] h:<call>   KEYS[2] holds   KEYS[3] ended
--         and, under the same hash tag, the w:<wallet> and a:<account> that the hold and the arguments name
-- ARGV[1] call id    ARGV[2] now, ms   ARGV[3] forget calls that ended before this, ms
-- ARGV[4] "owed" where only what nobody knows anything of may be held: said by who leads no more, for what it wrote down
--         then for each share: wallet id, account id, amount (micro-units, whole, not negative)
-- Results "finished"; "no_hold" where there is nothing to trim and nothing owed; "too_large" where a held sum would pass
--         2^53 - 1 (nothing is changed then, save that the call is remembered as over, so that no late hold opens it again).
-- Keeps   held of a wallet = the sum of that wallet's shares in all holds; channels are freed once, with the state; a share
--         whose posting came first (c:<wallet>) is not held a second time; the hold goes when no share is left. More
--         than was held is held all the same: it is owed. So is what a call costs whose hold was lost with other data,
--         where nobody has ended it yet; a second finish finds it remembered as over and holds nothing, however late
--         it comes. Such a hold may come before its wallet: sync keeps what is held. With "owed" nothing is changed of a call
--         that has a hold, or is remembered as over.
--         Wallets that got money back are told on the channel wake.
--         What an account's day was charged with this call (d:<wallet>) becomes what it costs, while that day lasts.

local LARGEST = 9007199254740991
local call, now_ms, forget_ms = ARGV[1], ARGV[2], ARGV[3]
local base = string.sub(KEYS[2], 1, -6)

local function whole(number)
  return string.format('%.0f', number)
end

if ARGV[4] == 'owed' and (redis.call('EXISTS', KEYS[1]) == 1 or redis.call('ZSCORE', KEYS[3], call)) then
  return 'no_hold'
end
local first = redis.call('ZADD', KEYS[3], 'NX', now_ms, call) == 1
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. forget_ms, 'LIMIT', 0, 8)) do
  redis.call('ZREM', KEYS[3], old)
end
local state = redis.call('HGET', KEYS[1], 'state')
local owed = first and not state
if state ~= 'open' and not owed then
  return 'no_hold'
end

local listed = owed and '' or redis.call('HGET', KEYS[1], 'shares')
local order, costs, accounts = {}, {}, {}
for wallet_id, account_id in string.gmatch(listed, '(%d+):(%d+),') do
  order[#order + 1] = wallet_id
  accounts[wallet_id] = account_id
  costs[wallet_id] = 0
end
for i = 5, #ARGV, 3 do
  local wallet_id = ARGV[i]
  if not costs[wallet_id] then
    order[#order + 1] = wallet_id
    costs[wallet_id] = 0
    listed = listed .. wallet_id .. ':' .. ARGV[i + 1] .. ','
  end
  costs[wallet_id] = costs[wallet_id] + tonumber(ARGV[i + 2])
end
local owns = {}
for _, wallet_id in ipairs(order) do
  if redis.call('HEXISTS', KEYS[1], 'c:' .. wallet_id) == 1 then
    costs[wallet_id] = 0
  end
  owns[wallet_id] = tonumber(redis.call('HGET', KEYS[1], 'w:' .. wallet_id) or '0')
  local held = tonumber(redis.call('HGET', base .. 'w:' .. wallet_id, 'held') or '0')
  if costs[wallet_id] > LARGEST or held - owns[wallet_id] + costs[wallet_id] > LARGEST then
    return 'too_large'
  end
end

local left = 0
for _, wallet_id in ipairs(order) do
  local cost, own = costs[wallet_id], owns[wallet_id]
  if cost ~= own then
    redis.call('HINCRBY', base .. 'w:' .. wallet_id, 'held', whole(cost - own))
    local day, part = string.match(redis.call('HGET', KEYS[1], 'd:' .. wallet_id) or '', '^(%d+):(%d+)$')
    local key = day and base .. 'a:' .. accounts[wallet_id]
    local today, spent = string.match(key and redis.call('HGET', key, 'today') or '', '^(%d+):(%d+)$')
    if today and today == day then
      local gone = math.max(cost - own, -tonumber(part))
      redis.call('HSET', key, 'today', today .. ':' .. whole(math.max(tonumber(spent) + gone, 0)))
    end
  end
  if cost > 0 then
    redis.call('HSET', KEYS[1], 'w:' .. wallet_id, whole(cost))
    left = left + 1
  else
    redis.call('HDEL', KEYS[1], 'w:' .. wallet_id)
  end
end
if owed and left == 0 then
  return 'no_hold'
end
if owed then
  redis.call('HSET', KEYS[1], 'accounts', '', 'deadline', now_ms)
end
for account_id in string.gmatch(redis.call('HGET', KEYS[1], 'accounts'), '(%d+),') do
  redis.call('HINCRBY', base .. 'a:' .. account_id, 'calls', '-1')
end
if left > 0 then
  redis.call('HSET', KEYS[1], 'state', 'finished', 'shares', listed)
  redis.call('ZADD', KEYS[2], '+inf', call)
else
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], call)
end
for _, wallet_id in ipairs(order) do
  if costs[wallet_id] < owns[wallet_id] then
    redis.call('PUBLISH', base .. 'wake', wallet_id)
  end
end
return 'finished'
