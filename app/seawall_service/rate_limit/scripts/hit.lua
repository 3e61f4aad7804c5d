-- One request against all its rules: counted by each, or by none where one refuses. The same arithmetic as rules.py.
-- KEYS: one for each rule. ARGV: the time in microseconds, "" for this server's own; then for each rule
-- "w", limit, microseconds (a fixed window) or "b", burst, requests per minute (a token bucket).
-- Returns for each rule: passes (0, 1), remaining, reset and wait, both in microseconds.
local TOKEN = 60000000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local values = redis.call('MGET', unpack(KEYS))
local amounts, starts, passes, all_pass = {}, {}, {}, true
for i = 1, #KEYS do
  local window, size, period = ARGV[3 * i - 1] == 'w', tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local amount, start = 0, now
  if values[i] then
    local stored, at = string.match(values[i], '^(%d+):(%d+)$')
    stored, at = tonumber(stored), tonumber(at)
    if not window then
      amount = math.max(0, stored - math.max(0, now - at) * period)
    elseif at <= now and now < at + period then
      amount, start = stored, at
    end
  end
  local step = window and 1 or TOKEN
  amounts[i], starts[i], passes[i] = amount, start, amount + step <= size * step
  all_pass = all_pass and passes[i]
end

local answer = {}
for i = 1, #KEYS do
  local window, size, period = ARGV[3 * i - 1] == 'w', tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local remaining, reset, wait
  if all_pass then
    amounts[i] = amounts[i] + (window and 1 or TOKEN)
  end
  if window then
    remaining, reset = size - amounts[i], starts[i] + period
    wait = reset - now
  else
    local room = size * TOKEN - amounts[i]
    remaining, reset = math.floor(room / TOKEN), now + math.ceil(amounts[i] / period)
    wait = math.ceil((TOKEN - room) / period)
  end
  if all_pass then
    redis.call('SET', KEYS[i], string.format('%.0f:%.0f', amounts[i], starts[i]), 'PX', math.max(1, math.ceil((reset - now) / 1000)))
  end
  answer[4 * i - 3] = passes[i] and 1 or 0
  answer[4 * i - 2] = remaining
  answer[4 * i - 1] = reset
  answer[4 * i] = passes[i] and 0 or wait
end
return answer
