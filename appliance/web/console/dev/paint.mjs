// Draws the two photographs of the play as PNG: no picture lies in the repository, and none is fetched.
import { deflateSync } from "node:zlib";

const table = Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});
function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = table[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
function chunk(type, body) {
  const out = Buffer.alloc(12 + body.length);
  out.writeUInt32BE(body.length);
  out.write(type, 4, "latin1");
  body.copy(out, 8);
  out.writeUInt32BE(crc(out.subarray(4, 8 + body.length)), 8 + body.length);
  return out;
}

export function png(width, height, colour) {
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [r, g, b] = colour(x / width, y / height);
      const at = y * (width * 3 + 1) + 1 + x * 3;
      rows[at] = r; rows[at + 1] = g; rows[at + 2] = b;
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), chunk("IHDR", head), chunk("IDAT", deflateSync(rows, { level: 6 })), chunk("IEND", Buffer.alloc(0))]);
}

const mix = (a, b, t) => a.map((v, i) => Math.round(v + (b[i] - v) * Math.max(0, Math.min(1, t))));

/** A tea tin on a table. */
function tin(u, v) {
  const table_ = v > 0.72;
  let c = table_ ? mix([142, 104, 70], [96, 66, 42], (v - 0.72) * 3) : mix([226, 217, 203], [196, 184, 166], u * 0.6 + v * 0.5);
  const dent = u > 0.56 && u < 0.66 ? Math.sin(((u - 0.56) / 0.1) * Math.PI) * 0.035 * Math.exp(-(((v - 0.42) / 0.08) ** 2)) : 0;
  if (u > 0.36 && u < 0.64 - dent && v > 0.22 && v < 0.82) {
    const s = (u - 0.36) / 0.28;
    c = mix([22, 74, 62], [64, 132, 112], Math.sin(s * Math.PI) ** 1.5);
    if (v < 0.29) c = mix(c, [205, 170, 96], 0.8);
    if (v > 0.42 && v < 0.66 && s > 0.22 && s < 0.78) c = mix([240, 233, 216], [222, 211, 186], s);
    if (Math.abs(v - 0.5) < 0.012 && s > 0.32 && s < 0.68) c = [60, 62, 58];
    if (Math.abs(v - 0.56) < 0.006 && s > 0.36 && s < 0.62) c = [120, 118, 108];
  } else if (table_ && u > 0.6 && u < 0.84) c = mix(c, [60, 40, 26], 0.45 * (1 - (u - 0.6) / 0.24));
  return c;
}

/** A laboratory's letter, photographed at a slant. */
function letter(u, v) {
  const x = u + (v - 0.5) * 0.06, y = v - (u - 0.5) * 0.04;
  if (x < 0.09 || x > 0.92 || y < 0.06 || y > 0.95) return mix([92, 78, 66], [58, 48, 42], v);
  let c = mix([250, 248, 243], [226, 222, 214], u * 0.5 + v * 0.4);
  if (y < 0.14 && y > 0.1 && x > 0.16 && x < 0.42) c = [40, 96, 122];
  const row = (y - 0.22) / 0.034, inside = row - Math.floor(row);
  if (row > 0 && row < 18 && inside > 0.34 && inside < 0.62 && x > 0.16) {
    const n = Math.floor(row);
    const end = 0.34 + ((n * 37) % 17) / 90;
    if (x < end || (x > 0.58 && x < 0.66) || (x > 0.74 && x < 0.82)) c = mix(c, [70, 70, 74], 0.7);
  }
  return c;
}

export const photograph = { tin: () => png(1200, 900, tin), letter: () => png(900, 1200, letter) };
