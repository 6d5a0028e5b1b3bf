-- lease: take or keep the right to control some switches, or give it up: all of them, or none.
--
-- KEYS[1] lease:<switch>   KEYS[2] leader:<switch>   KEYS[3] standby:<switch>   and so on for each further switch
-- ARGV[1] token, another one for each process   ARGV[2] how long it holds, ms   ARGV[3] "seek" or "leave"
-- Results {"leads", "1" where somebody waits to take over, else "0"}; {"taken", whose it is}: nothing is changed then, save
--         that somebody waits now; {"left"}.
-- Keeps   a lease has one holder, until it leaves or has not come back in time; leader:<switch> names who took it last,
--         and stays: hold, finish and release of anybody who thinks otherwise are turned away.

local token, lives_ms, wants = ARGV[1], ARGV[2], ARGV[3]

if wants == 'leave' then
  for i = 1, #KEYS, 3 do
    local key = KEYS[i]
    if redis.call('GET', key) == token then
      redis.call('DEL', key)
    end
  end
  return { 'left' }
end
for i = 1, #KEYS, 3 do
  local key = KEYS[i]
  local holder = redis.call('GET', key)
  if holder and holder ~= token then
    key = KEYS[i + 2]
    redis.call('SET', key, token, 'PX', lives_ms)
    return { 'taken', holder }
  end
end
local awaited = '0'
for i = 1, #KEYS, 3 do
  local key = KEYS[i]
  redis.call('SET', key, token, 'PX', lives_ms)
  key = KEYS[i + 1]
  redis.call('SET', key, token)
  key = KEYS[i + 2]
  local waits = redis.call('GET', key)
  if waits and waits ~= token then
    awaited = '1'
  end
end
return { 'leads', awaited }
