-- apply: add a posting of SQL to a wallet, in order, and drop the share of the hold that it replaces.
--
-- KEYS[1] w:<wallet>   KEYS[2] holds   KEYS[3] ended   KEYS[4] h:<call>, where the posting charges a call
--         and, under the same hash tag, the a:<account> that the hold names
-- ARGV[1] wallet id    ARGV[2] sequence number   ARGV[3] amount (micro-units, signed)   ARGV[4] call id, or ""
-- Results "applied"; "seen" where the wallet has it already; "gap" where an earlier posting is missing; "unknown_wallet";
--         "too_large" where the balance would pass 2^53 - 1. With the last three nothing is changed.
-- Keeps   balance = the sum of the postings up to seq; held of a wallet = the sum of that wallet's shares in all holds.
--         The share goes with "seen" too, finished or not: the call has been charged. A hold still open is then
--         remembered as over (c:<wallet> tells finish not to hold it again); with its last share the hold goes,
--         and frees the channels if finish has not. A wallet whose available money grew is told on the channel wake.
--         What an account's day was charged with an open hold (d:<wallet>) becomes what the call costs, while it lasts.

local LARGEST = 9007199254740991
local wallet_id, seq, amount, call = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local base = string.sub(KEYS[2], 1, -6)

local function whole(number)
  return string.format('%.0f', number)
end

local kept = redis.call('HMGET', KEYS[1], 'balance', 'seq')
if not kept[2] then
  return 'unknown_wallet'
end
local ahead = tonumber(seq) - tonumber(kept[2])
if ahead > 1 then
  return 'gap'
end
local answer, gained = 'seen', 0
if ahead == 1 then
  gained = tonumber(amount)
  if math.abs(tonumber(kept[1]) + gained) > LARGEST then
    return 'too_large'
  end
  redis.call('HINCRBY', KEYS[1], 'balance', amount)
  redis.call('HSET', KEYS[1], 'seq', seq)
  answer = 'applied'
end

local share = call ~= '' and redis.call('HGET', KEYS[4], 'w:' .. wallet_id)
if share then
  if share ~= '0' then
    redis.call('HINCRBY', KEYS[1], 'held', '-' .. share)
  end
  gained = gained + tonumber(share)
  redis.call('HDEL', KEYS[4], 'w:' .. wallet_id)
  redis.call('HSET', KEYS[4], 'c:' .. wallet_id, '1')
  local hold = redis.call('HMGET', KEYS[4], 'state', 'deadline', 'accounts', 'shares', 'd:' .. wallet_id)
  if hold[1] == 'open' then
    redis.call('ZADD', KEYS[3], 'NX', hold[2], call)
    local day, part = string.match(hold[5] or '', '^(%d+):(%d+)$')
    local key = day and base .. 'a:' .. string.match(',' .. hold[4], ',' .. wallet_id .. ':(%d+),')
    local today, spent = string.match(key and redis.call('HGET', key, 'today') or '', '^(%d+):(%d+)$')
    if today and today == day then
      local gone = math.max(-tonumber(amount) - tonumber(share), -tonumber(part))
      redis.call('HSET', key, 'today', today .. ':' .. whole(math.max(tonumber(spent) + gone, 0)))
    end
  end
  local left = 0
  for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
    if string.sub(field, 1, 2) == 'w:' then
      left = left + 1
    end
  end
  if left == 0 then
    if hold[1] == 'open' then
      for account_id in string.gmatch(hold[3], '(%d+),') do
        redis.call('HINCRBY', base .. 'a:' .. account_id, 'calls', '-1')
      end
    end
    redis.call('DEL', KEYS[4])
    redis.call('ZREM', KEYS[2], call)
  end
end
if gained > 0 then
  redis.call('PUBLISH', base .. 'wake', wallet_id)
end
return answer
