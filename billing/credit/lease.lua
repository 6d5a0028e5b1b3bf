-- lease: take or keep the right to control some switches, or give it up: all of them, or none.
--
-- KEYS[1] lease:<switch>   KEYS[2] leader:<switch>   KEYS[3] standby:<switch>   KEYS[4] waited:<switch>
--         and so on for each further switch
-- ARGV[1] token, another one for each time that somebody leads   ARGV[2] how long it holds, ms
-- ARGV[3] "seek"; "keep", where the asker believes that it leads; or "leave"   ARGV[4] how long it is remembered that
--         somebody waited, ms   ARGV[5] "1" where the asker waited until now and lets the one that led go first
-- Results {"leads", "1" where somebody waits to take over, or waited or led and has not said that it gave up, else "0"};
--         {"taken", whose it is, or was last}: nothing is changed then, save that somebody waits now; {"left"}; {"lost"} to
--         one that lets others go first, where nobody is known to lead or to have waited: with other data it was lost.
-- Keeps   a lease has one holder, until it leaves or has not come back in time; leader:<switch> names who took it last,
--         and stays until that one leaves: hold, finish and release of anybody who thinks otherwise are turned away. Who believes that it leads
--         and did not while another one led never gets it back under the same token: it does not know what happened.

local token, lives_ms, wants, remembers_ms, patient = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'

if wants == 'leave' then
  for i = 1, #KEYS, 4 do
    for _, key in ipairs({ KEYS[i], KEYS[i + 1], KEYS[i + 3] }) do
      if redis.call('GET', key) == token then
        redis.call('DEL', key)
      end
    end
  end
  return { 'left' }
end
for i = 1, #KEYS, 4 do
  local key = KEYS[i]
  local holder = redis.call('GET', key)
  if holder and holder ~= token then
    key = KEYS[i + 2]
    redis.call('SET', key, token, 'PX', lives_ms)
    key = KEYS[i + 3]
    redis.call('SET', key, token, 'PX', remembers_ms)
    return { 'taken', holder }
  end
  key = KEYS[i + 1]
  local last = redis.call('GET', key)
  if wants == 'keep' and last and last ~= token then
    return { 'taken', last }
  end
  key = KEYS[i + 3]
  if patient and not holder and not last and redis.call('EXISTS', key) == 0 then
    return { 'lost' }
  end
end
local awaited = '0'
for i = 1, #KEYS, 4 do
  local key = KEYS[i]
  redis.call('SET', key, token, 'PX', lives_ms)
  key = KEYS[i + 1]
  local last = redis.call('GET', key)
  redis.call('SET', key, token)
  key = KEYS[i + 3]
  if last and last ~= token then
    -- Frozen or cut off, as far as anybody knows: it comes back, and wants to lead again.
    redis.call('SET', key, last, 'PX', remembers_ms)
  end
  local waits = redis.call('GET', key)
  if waits and waits ~= token then
    awaited = '1'
  end
end
return { 'leads', awaited }
