-- MessagePack for the Lua of fakeredis, which lacks the library that real servers carry. Arrays, strings and whole
-- numbers, which is all that our scripts exchange. Real servers run the same tests with the real library.

local floor, char, byte, sub = math.floor, string.char, string.byte, string.sub

local function big_endian(value, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    out[i] = char(value % 256)
    value = floor(value / 256)
  end
  return table.concat(out)
end

local pack

local function pack_number(n)
  assert(n == floor(n), 'only whole numbers are packed')
  if n >= 0 then
    if n < 128 then return char(n) end
    if n < 2 ^ 8 then return '\204' .. big_endian(n, 1) end
    if n < 2 ^ 16 then return '\205' .. big_endian(n, 2) end
    if n < 2 ^ 32 then return '\206' .. big_endian(n, 4) end
    return '\207' .. big_endian(n, 8)
  end
  if n >= -32 then return char(256 + n) end
  if n >= -2 ^ 31 then return '\210' .. big_endian(2 ^ 32 + n, 4) end
  local low = n % 2 ^ 32
  return '\211' .. big_endian(2 ^ 32 + (n - low) / 2 ^ 32, 4) .. big_endian(low, 4)
end

local function pack_string(s)
  if #s < 32 then return char(160 + #s) .. s end
  if #s < 256 then return '\217' .. big_endian(#s, 1) .. s end
  return '\218' .. big_endian(#s, 2) .. s
end

function pack(value)
  local kind = type(value)
  if kind == 'number' then return pack_number(value) end
  if kind == 'string' then return pack_string(value) end
  if kind == 'boolean' then return value and '\195' or '\194' end
  assert(kind == 'table', 'cannot pack a ' .. kind)
  local out = {#value < 16 and char(144 + #value) or ('\220' .. big_endian(#value, 2))}
  for i = 1, #value do out[i + 1] = pack(value[i]) end
  return table.concat(out)
end

local function number_at(s, at, bytes)
  local value = 0
  for i = at, at + bytes - 1 do value = value * 256 + byte(s, i) end
  return value
end

local unpack_at

local function array_at(s, at, count)
  local out = {}
  for i = 1, count do out[i], at = unpack_at(s, at) end
  return out, at
end

local function map_at(s, at, count)
  local out, key = {}, nil
  for _ = 1, count do
    key, at = unpack_at(s, at)
    out[key], at = unpack_at(s, at)
  end
  return out, at
end

function unpack_at(s, at)
  local tag = byte(s, at)
  at = at + 1
  if tag < 128 then return tag, at end
  if tag < 144 then return map_at(s, at, tag - 128) end
  if tag >= 224 then return tag - 256, at end
  if tag >= 160 and tag < 192 then return sub(s, at, at + tag - 161), at + tag - 160 end
  if tag >= 144 and tag < 160 then return array_at(s, at, tag - 144) end
  if tag == 192 then return nil, at end
  if tag == 194 or tag == 195 then return tag == 195, at end
  if tag >= 204 and tag <= 207 then
    local bytes = 2 ^ (tag - 204)
    return number_at(s, at, bytes), at + bytes
  end
  if tag >= 208 and tag <= 211 then
    local bytes = 2 ^ (tag - 208)
    local high = byte(s, at) >= 128 and 2 ^ (8 * bytes) or 0
    if bytes == 8 and high > 0 then
      -- Two's complement by halves, which stay exact as doubles.
      return (number_at(s, at, 4) - 2 ^ 32) * 2 ^ 32 + number_at(s, at + 4, 4), at + 8
    end
    return number_at(s, at, bytes) - high, at + bytes
  end
  if tag >= 217 and tag <= 219 then
    local bytes = 2 ^ (tag - 217)
    local length = number_at(s, at, bytes)
    at = at + bytes
    return sub(s, at, at + length - 1), at + length
  end
  if tag == 220 then return array_at(s, at + 2, number_at(s, at, 2)) end
  if tag == 221 then return array_at(s, at + 4, number_at(s, at, 4)) end
  if tag == 222 then return map_at(s, at + 2, number_at(s, at, 2)) end
  error('cannot unpack tag ' .. tag)
end

-- Values one behind the other, from an offset that counts from 0; before them the offset of what follows.
local function unpack_limit(s, limit, offset)
  local values, at = array_at(s, (offset or 0) + 1, limit)
  return at > #s and -1 or at - 1, unpack(values)
end

local function pack_all(...)
  local out = {}
  for i, value in ipairs({...}) do out[i] = pack(value) end
  return table.concat(out)
end

return {pack = pack_all, unpack = function(s) return (unpack_at(s, 1)) end, unpack_limit = unpack_limit}
