/**
 * Bytes to frames and back: a batch is frames, each `[length: varint][opcode: u8][body]`.
 *
 * Invariants: a length is believed only after it was compared with what is left; a number that
 * JavaScript would round is refused, not rounded; after an error nothing more is read.
 */
import { DOWN, UP, type Fields, type Frames, type Shape } from "./frames.js";
import { LIMITS, type Down, type Up } from "./wire.js";

/** Frames from here on may be skipped by whoever does not know them. */
const SKIP_FROM = 0x80;

/** A batch that breaks a rule of the language; `rule` is the name that the vectors use. */
export class Malformed extends Error {
  constructor(readonly rule: string) {
    super(rule);
  }
}

export const encodeUp = (frames: readonly Up[]): Uint8Array => encode(UP, frames);
export const encodeDown = (frames: readonly Down[]): Uint8Array => encode(DOWN, frames);
export const decodeUp = (batch: Uint8Array): Up[] => decode(UP, batch, LIMITS.batch_frames_max) as unknown as Up[];
export const decodeDown = (batch: Uint8Array): Down[] => decode(DOWN, batch, Infinity) as unknown as Down[];

/** base64url without padding, as ids and bytes are spelled in text. */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/[+/=]/g, (sign) => (sign === "+" ? "-" : sign === "/" ? "_" : ""));
}

export function fromBase64(text: string): Uint8Array {
  if (!/^[\w-]*$/.test(text) || text.length % 4 === 1) throw new Malformed("not-base64");
  const binary = atob(text.replace(/[-_]/g, (sign) => (sign === "-" ? "+" : "/")));
  const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  // Bits that hang over would be a second spelling of the same bytes.
  if (toBase64(bytes) !== text) throw new Malformed("not-base64");
  return bytes;
}

type Value = Record<string, unknown>;

function encode(frames: Frames, batch: readonly { op: string }[]): Uint8Array {
  const out: number[] = [];
  for (const frame of batch) {
    const row = frames.find(([, op]) => op === frame.op);
    if (!row) throw new Malformed("unknown-opcode");
    const body: number[] = [row[0]];
    putFields(row[2], frame as unknown as Value, body);
    putVarint(body.length, out);
    append(out, body);
  }
  return Uint8Array.from(out);
}

function decode(frames: Frames, batch: Uint8Array, framesMax: number): Value[] {
  if (batch.length > LIMITS.batch_bytes_max) throw new Malformed("batch-too-large");
  const input = new Input(batch);
  const found: Value[] = [];
  for (let count = 1; !input.ended; count += 1) {
    if (count > framesMax) throw new Malformed("too-many-frames");
    const frame = new Input(input.counted());
    if (frame.ended) throw new Malformed("empty-frame");
    const opcode = frame.byte();
    const row = frames.find(([number]) => number === opcode);
    if (row) found.push({ op: row[1], ...takeFields(row[2], frame) });
    else if (opcode < SKIP_FROM) throw new Malformed("unknown-opcode");
  }
  return found;
}

function putFields(fields: Fields, value: Value, out: number[]): void {
  for (const [name, shape] of fields) put(shape, value[name], out);
}

function takeFields(fields: Fields, input: Input): Value {
  const value: Value = {};
  for (const [name, shape] of fields) {
    const taken = take(shape, input);
    if (taken !== undefined) value[name] = taken;
  }
  return value;
}

function put(shape: Shape, value: unknown, out: number[]): void {
  if (shape === "varint") putVarint(value as number, out);
  else if (shape === "byte" || shape === "bool") out.push(Number(value));
  else if (shape === "text?") {
    if (value) put("text", value, out);
  }
  else if (shape === "text") {
    const bytes = new TextEncoder().encode(value as string);
    putVarint(bytes.length, out);
    append(out, bytes);
  } else if (shape === "id" || shape === "epoch") append(out, fromBase64(value as string));
  else if (shape === "ref") {
    if (typeof value === "number") putVarint(value, out);
    else if (value === "mine") out.push(1);
    else {
      out.push(0);
      append(out, fromBase64(value as string));
    }
  } else if ("choice" in shape) {
    const number = shape.choice[value as string];
    if (number === undefined) throw new Malformed("unknown-value");
    out.push(number);
  } else if ("list" in shape) {
    const list = value as Value[];
    if (list.length > LIMITS.marks_max) throw new Malformed("too-many-elements");
    putVarint(list.length, out);
    for (const element of list) putFields(shape.list, element, out);
  } else {
    const body = value as Value;
    const kind = shape.union.find(([, name]) => name === body.kind);
    if (kind) {
      out.push(kind[0]);
      putFields(kind[2], body, out);
    } else if (shape.open && typeof body.kind === "number") {
      out.push(body.kind);
      append(out, fromBase64(body.bytes as string));
    } else throw new Malformed("unknown-value");
  }
}

function take(shape: Shape, input: Input): unknown {
  if (shape === "varint") return input.varint();
  if (shape === "byte") return input.byte();
  if (shape === "text") return input.text();
  if (shape === "text?") return input.grown();
  if (shape === "id") return toBase64(input.bytes(16));
  if (shape === "epoch") return toBase64(input.bytes(8));
  if (shape === "bool") {
    const byte = input.byte();
    if (byte > 1) throw new Malformed("unknown-value");
    return byte === 1;
  }
  if (shape === "ref") {
    const first = input.varint();
    return first === 0 ? toBase64(input.bytes(16)) : first === 1 ? "mine" : first;
  }
  if ("choice" in shape) {
    const byte = input.byte();
    const option = Object.keys(shape.choice).find((name) => shape.choice[name] === byte);
    if (option === undefined) throw new Malformed("unknown-value");
    return option;
  }
  if ("list" in shape) {
    const count = input.varint(Infinity);
    if (count > LIMITS.marks_max) throw new Malformed("too-many-elements");
    return Array.from({ length: count }, () => takeFields(shape.list, input));
  }
  const byte = input.byte();
  const kind = shape.union.find(([number]) => number === byte);
  if (kind) {
    const body = { kind: kind[1], ...takeFields(kind[2], input) };
    // A kind is hashed as it stands, so nothing may hide behind its last field.
    if (!input.ended) throw new Malformed("bytes-left-over");
    return body;
  }
  if (shape.open) return { kind: byte, bytes: toBase64(input.rest()) };
  throw new Malformed("unknown-value");
}

function putVarint(value: number, out: number[]): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new Malformed("number-too-large");
  while (value >= 0x80) {
    out.push((value % 0x80) | 0x80);
    value = Math.floor(value / 0x80);
  }
  out.push(value);
}

/** Not `push(...bytes)`: a long text would overflow the stack of arguments. */
function append(out: number[], bytes: ArrayLike<number>): void {
  for (let at = 0; at < bytes.length; at += 1) out.push(bytes[at] as number);
}

/** Bytes that are being read: every step takes what it asked for or says why not. */
class Input {
  private at = 0;
  constructor(private readonly all: Uint8Array) {}

  get ended(): boolean {
    return this.at >= this.all.length;
  }

  byte(): number {
    const byte = this.all[this.at];
    if (byte === undefined) throw new Malformed("truncated");
    this.at += 1;
    return byte;
  }

  bytes(length: number, rule = "truncated"): Uint8Array {
    if (length > this.all.length - this.at) throw new Malformed(rule);
    this.at += length;
    return this.all.subarray(this.at - length, this.at);
  }

  rest(): Uint8Array {
    return this.bytes(this.all.length - this.at);
  }

  counted(): Uint8Array {
    return this.bytes(this.varint(Infinity), "length-beyond-end");
  }

  text(): string {
    const bytes = this.counted();
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Malformed("not-utf8");
    }
  }

  /** What is no text here is passed over, as it was before the field was known. */
  grown(): string | undefined {
    const { at } = this;
    try {
      return this.text() || undefined;
    } catch {
      this.at = at;
      return undefined;
    }
  }

  /** LEB128 in its shortest form. What fits u64 but not a JavaScript integer is refused by its own name. */
  varint(max = Number.MAX_SAFE_INTEGER): number {
    let value = 0;
    let weight = 1;
    for (let index = 0; index < 10; index += 1) {
      const byte = this.byte();
      if (index === 9 && (byte & 0x7f) > 1) break;
      value += (byte & 0x7f) * weight;
      weight *= 0x80;
      if (byte < 0x80) {
        if (byte === 0 && index > 0) throw new Malformed("varint-overlong");
        if (value > max) throw new Malformed("number-too-large");
        return value;
      }
    }
    throw new Malformed("varint-too-large");
  }
}
