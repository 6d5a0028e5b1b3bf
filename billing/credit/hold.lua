-- hold: admit a call, or extend it: in every wallet of the chain, or in none.
--
-- KEYS[1] h:<call>   KEYS[2] holds   KEYS[3] ended   then for each share: w:<wallet>, a:<account>
-- ARGV[1] call id    ARGV[2] "hold", "extend", "adopt" (hold a call that lives already), "restore" (hold what was held
--         before data was lost), or "reserve" (for a movement of money that is no call, under an id of its own)
--         ARGV[3] now, whole seconds   ARGV[4] deadline, ms
-- ARGV[5] facts      ARGV[6] "1" to write the facts, "0" to leave them
--         then for each share: wallet id, account id, amount (micro-units, whole, not negative), the number of the
--         account's day, or 0 where it is not counted
-- Results {"held"}, or {code, level from 0, available of each share} with code ended, no_hold, too_large, unknown_wallet,
--         inactive, too_many_calls, too_fast, no_money, day_limit; nothing is changed then. `available` is also no more
--         than the account may still spend today.
-- Keeps   held of a wallet = the sum of that wallet's shares in all holds; available is not negative where a share was
--         raised, save by "restore", which asks for no money: it was held, and is owed; each account counts a call
--         once; a call that is over never holds again; the same call held again changes nothing. An extension never
--         lowers a share, and looks at money only, like the hold of a call that lives already: status and limits are
--         for new calls.
--         A movement of money counts in no account, asks for money only, and may be held again after its end: SQL
--         remembers what became of it.
--         What is held today of an account with a limit for the day, and what calls of today cost it, stays within that
--         limit where a share was raised (the hold of a call that lives already is counted, and not refused). What was
--         held on another day counts there; the share notes its day and part (d:<wallet>). A clock that is up to a
--         day behind counts in the newest day.
--         Calls per second count admitted calls in fixed windows of one second; a clock that is up to 2 s behind
--         counts in the newest window, or two controllers would empty it for each other.

local LARGEST = 9007199254740991
local call, mode, now_s, deadline = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state = redis.call('HGET', KEYS[1], 'state')
local restores, checks, counts = mode == 'restore', mode == 'hold', mode ~= 'reserve'
local admits = mode ~= 'extend' and not (restores and state)
local count = (#ARGV - 6) / 4

local function whole(number)
  return string.format('%.0f', number)
end

-- Opposite signs meet first, so that no step leaves the exact range unless the result does.
local function available(balance, held, credit)
  local sum
  if balance >= 0 then
    sum = (balance - held) + credit
  else
    sum = (balance + credit) - held
  end
  return math.max(-LARGEST, math.min(LARGEST, sum))
end

local wallets, wallet_order, accounts, account_order, shares = {}, {}, {}, {}, {}
for i = 1, count do
  local wallet_id, account_id, amount = ARGV[3 + 4 * i], ARGV[4 + 4 * i], tonumber(ARGV[5 + 4 * i])
  local day = tonumber(ARGV[6 + 4 * i])
  if not accounts[account_id] then
    local key = KEYS[3 + 2 * i]
    local kept = redis.call('HMGET', key, 'status', 'max_calls', 'max_cps', 'calls', 'cps_s', 'cps_n', 'max_day', 'today')
    local account = { key = key, id = account_id, status = kept[1], calls = tonumber(kept[4] or '0') }
    account.max_calls, account.max_cps = tonumber(kept[2] or ''), tonumber(kept[3] or '')
    account.window, account.admitted = now_s, 0
    local ahead = tonumber(kept[5] or '-1') - tonumber(now_s)
    if ahead >= 0 and ahead <= 2 then
      account.window, account.admitted = kept[5], tonumber(kept[6])
    end
    account.max_day = tonumber(kept[7] or '')
    if account.max_day and day > 0 then
      local kept_day, spent = string.match(kept[8] or '', '^(%d+):(%d+)$')
      local newer = tonumber(kept_day or '0') - day
      account.today, account.spent = day, 0
      if newer == 0 or newer == 1 then
        account.today, account.spent = tonumber(kept_day), tonumber(spent)
      end
    end
    accounts[account_id] = account
    account_order[#account_order + 1] = account
  end
  if not wallets[wallet_id] then
    local key = KEYS[2 + 2 * i]
    local kept = redis.call('HMGET', key, 'balance', 'held', 'credit', 'seq')
    local own = tonumber(redis.call('HGET', KEYS[1], 'w:' .. wallet_id) or '0')
    local held = tonumber(kept[2] or '0')
    local wallet = { key = key, id = wallet_id, account_id = account_id, own = own, held = held, need = 0 }
    wallet.known = kept[4] and true or false
    wallet.available = wallet.known and available(tonumber(kept[1]), held - own, tonumber(kept[3])) or 0
    local account = accounts[account_id]
    if account.today and day > 0 then
      wallet.counted = account
      local left = own + account.max_day - account.spent
      if mode ~= 'adopt' and not restores and left < wallet.available then
        wallet.available, wallet.short = left, 'day_limit'
      end
    end
    wallets[wallet_id] = wallet
    wallet_order[#wallet_order + 1] = wallet
  end
  shares[i] = { wallet = wallets[wallet_id], account = accounts[account_id], amount = amount }
end

local function refuse(code, level)
  local answer = { code, whole(level - 1) }
  for i = 1, count do
    answer[2 + i] = whole(shares[i].wallet.available)
  end
  return answer
end

if state == 'finished' or (counts and redis.call('ZSCORE', KEYS[3], call)) then
  return refuse('ended', 1)
end
if admits and state then
  return { 'held' }
end
if not admits and not state then
  return refuse('no_hold', 1)
end

for i = 1, count do
  if shares[i].amount > LARGEST then
    return refuse('too_large', i)
  end
end
for i = 1, count do
  if not shares[i].wallet.known or (admits and not shares[i].account.status) then
    return refuse('unknown_wallet', i)
  end
end
if checks then
  for i = 1, count do
    if shares[i].account.status ~= 'active' then
      return refuse('inactive', i)
    end
  end
  for i = 1, count do
    local account = shares[i].account
    if account.max_calls and account.calls + 1 > account.max_calls then
      return refuse('too_many_calls', i)
    end
  end
  for i = 1, count do
    local account = shares[i].account
    if account.max_cps and account.admitted + 1 > account.max_cps then
      return refuse('too_fast', i)
    end
  end
end
for i = 1, count do
  local wallet = shares[i].wallet
  wallet.need = wallet.need + shares[i].amount
  if wallet.need > wallet.own then
    if wallet.need > LARGEST or wallet.held - wallet.own + wallet.need > LARGEST then
      return refuse('too_large', i)
    end
    if wallet.need > wallet.available and not restores then
      return refuse(wallet.short or 'no_money', i)
    end
  end
end

local listed = admits and '' or redis.call('HGET', KEYS[1], 'shares')
for _, wallet in ipairs(wallet_order) do
  if wallet.need > wallet.own then
    redis.call('HINCRBY', wallet.key, 'held', whole(wallet.need - wallet.own))
    if wallet.counted then
      local account, raised = wallet.counted, wallet.need - wallet.own
      local day, part = string.match(redis.call('HGET', KEYS[1], 'd:' .. wallet.id) or '', '^(%d+):(%d+)$')
      local before = tonumber(day or '0') == account.today and tonumber(part) or 0
      redis.call('HSET', KEYS[1], 'd:' .. wallet.id, whole(account.today) .. ':' .. whole(before + raised))
      account.spent = account.spent + raised
      redis.call('HSET', account.key, 'today', whole(account.today) .. ':' .. whole(account.spent))
    end
  end
  if redis.call('HSETNX', KEYS[1], 'w:' .. wallet.id, whole(wallet.need)) == 1 then
    listed = listed .. wallet.id .. ':' .. wallet.account_id .. ','
  elseif wallet.need > wallet.own then
    redis.call('HSET', KEYS[1], 'w:' .. wallet.id, whole(wallet.need))
  end
end
redis.call('HSET', KEYS[1], 'shares', listed, 'deadline', deadline)
redis.call('ZADD', KEYS[2], deadline, call)
if ARGV[6] == '1' then
  redis.call('HSET', KEYS[1], 'facts', ARGV[5])
end
if admits then
  local counted = ''
  if counts then
    for _, account in ipairs(account_order) do
      redis.call('HINCRBY', account.key, 'calls', '1')
      counted = counted .. account.id .. ','
      if checks and account.max_cps then
        redis.call('HSET', account.key, 'cps_s', account.window, 'cps_n', whole(account.admitted + 1))
      end
    end
  end
  redis.call('HSET', KEYS[1], 'state', 'open', 'accounts', counted)
end
return { 'held' }
