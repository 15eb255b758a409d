/** Every vector of the language, in both directions. One vector, one reason to fail. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { decodeDown, decodeUp, encodeDown, encodeUp, Malformed } from "../src/codec.js";
import type { Down, Up } from "../src/wire.js";

interface Vector {
  name: string;
  direction: "up" | "down";
  hex: string;
  json?: (Up | Down)[];
  refused?: string;
}

const VECTORS = new URL("../../../../vectors/", import.meta.url);
const vectors = (file: string): Vector[] => JSON.parse(readFileSync(new URL(file, VECTORS), "utf8"));
const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));
const decode = ({ direction, hex }: Vector) => (direction === "up" ? decodeUp : decodeDown)(bytes(hex));

for (const vector of vectors("frames.json")) {
  test(`frames: ${vector.name}`, () => {
    assert.deepEqual(decode(vector), vector.json);
    const encoded =
      vector.direction === "up" ? encodeUp(vector.json as Up[]) : encodeDown(vector.json as Down[]);
    assert.equal(Buffer.from(encoded).toString("hex"), vector.hex);
  });
}

for (const vector of vectors("tolerated.json")) {
  test(`tolerated: ${vector.name}`, () => assert.deepEqual(decode(vector), vector.json));
}

for (const vector of vectors("refused.json")) {
  test(`refused: ${vector.name}`, () => {
    assert.throws(
      () => decode(vector),
      (thrown) => thrown instanceof Malformed && thrown.rule === vector.refused,
    );
  });
}

test("a number that JavaScript would round is refused, in both directions", () => {
  assert.throws(() => decodeUp(bytes("09048080808080808010")), { rule: "number-too-large" });
  for (const nonce of [2 ** 53, -1, 0.5, NaN]) {
    assert.throws(() => encodeUp([{ op: "ping", nonce }]), { rule: "number-too-large" });
  }
});
