-- fence: put in front of the scripts that change holds: only who leads a call's switch changes them.
--
-- KEYS[1] h:<call>   KEYS[2] holds   as the script itself has them; and, under the same hash tag, leader:<switch>
-- ARGV[1] call id    last ARGV the token of who asks, or "": a process that controls no switch. It is taken off the list.
-- Results "fenced": somebody else leads the switch of this call; "unled": nobody is known to, since that was lost with
--         other data: who leads says so again within half a second. Nothing is changed then.
-- Keeps   whoever lost the lease, frozen or cut off, moves no money any more, however late its words arrive.

do
  local token = table.remove(ARGV)
  local base, switch = string.sub(KEYS[2], 1, -6), string.match(ARGV[1], '^[^:]*')
  -- "op:" begins the names of movements of money, which belong to no switch.
  local leader = token ~= '' and switch ~= 'op' and redis.call('GET', base .. 'leader:' .. switch)
  if token ~= '' and switch ~= 'op' and leader ~= token then
    return leader and 'fenced' or 'unled'
  end
end
