// PNG files of our own making: a lake between hills.
import zlib from "node:zlib";

/** Node before 20.15 has no `crc32`. */
function sum(bytes) {
  if (zlib.crc32) return zlib.crc32(bytes);
  let rest = 0xffffffff;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  }
  return ~rest >>> 0;
}

function chunk(name, data) {
  const named = Buffer.concat([Buffer.from(name), data]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  check.writeUInt32BE(sum(named));
  return Buffer.concat([length, named, check]);
}

function pixel(x, y, width, height) {
  const shore = height * 0.58;
  const hill = shore - height * (0.1 + 0.09 * Math.sin((x / width) * 7) + 0.03 * Math.sin((x / width) * 23));
  if (y > shore) return [50 + (y - shore) / 6, 100 + (y - shore) / 8, 150 - (y - shore) / 5];
  if (y > hill) return [50 + (y / height) * 40, 105 + (y / height) * 30, 75];
  const up = y / hill;
  return [120 + 110 * up, 170 + 45 * up, 225 - 20 * up];
}

export function png(width, height) {
  const raw = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) pixel(x, y, width, height).forEach((part, at) => { raw[y * (width * 3 + 1) + 1 + x * 3 + at] = part; });
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2], 8);
  return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", head), chunk("IDAT", zlib.deflateSync(raw)), chunk("IEND", Buffer.alloc(0))]);
}
