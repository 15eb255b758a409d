/**
 * The frames as a table: what each opcode carries, in the order of its fields. The values are spelled
 * as in the readable twin (`lodge.v1.json`), so a decoded frame is what the twin would have said.
 *
 * Invariants: opcodes and fields never change their meaning; frames grow only at their end.
 */

import { CONVERSATION_STATE, DRAFT_BODY, ENTRY_BODY, LANE, OPCODES, OUTCOME, PERSON_KIND } from "./wire.js";

/** How one field is written. */
export type Shape =
  | "byte"
  | "bool"
  | "varint"
  | "text"
  /** A text at the end of its frame, left out when empty. */
  | "text?"
  | "id"
  | "epoch"
  | "ref"
  | { readonly choice: Readonly<Record<string, number>> }
  | { readonly list: Fields }
  | { readonly union: readonly (readonly [number, string, Fields])[]; readonly open: boolean };

export type Fields = readonly (readonly [name: string, shape: Shape])[];
export type Frames = readonly (readonly [opcode: number, op: string, Fields])[];

/** One row for each name: the compiler finds the one that is missing. */
function named<T extends Record<string, number>>(ids: T, fields: Record<keyof T, Fields>): Frames {
  return Object.keys(ids).map((name) => [ids[name] as number, name, fields[name] as Fields]);
}

const ON_LANE: readonly [string, Shape] = ["lane", { choice: LANE }];

const NONCE: Fields = [["nonce", "varint"]];
const REFUSAL: Fields = [["code", "varint"], ["text", "text"], ["retry_after_ms", "varint"]];

const DRAFT: Shape = {
  open: true,
  union: named(DRAFT_BODY, {
    text: [["text", "text"]],
    file: [["upload", "text"], ["name", "text"], ["caption", "text"]],
    close: [],
  }),
};

const ENTRY: Shape = {
  open: true,
  union: named(ENTRY_BODY, {
    text: [["text", "text"]],
    file: [
      ["name", "text"],
      ["mime", "text"],
      ["size", "varint"],
      ["width", "varint"],
      ["height", "varint"],
      ["caption", "text"],
    ],
    closed: [],
    opened: [["visitor", "varint"], ["page", "text"]],
    assigned: [["agent", "varint"], ["why", "text"]],
    joined: [["agent", "varint"]],
    reopened: [],
  }),
};

const SETTLED: Shape = {
  open: false,
  union: named(OUTCOME, {
    accepted: [
      ["conversation", "varint"],
      ON_LANE,
      ["seq", "varint"],
      ["position", "varint"],
      ["time_ms", "varint"],
    ],
    refused: REFUSAL,
  }),
};

/** What a client sends. */
export const UP: Frames = named(OPCODES.up, {
  hello: [
    ["version", "byte"],
    ["caps", "varint"],
    ["device", "id"],
    ["generation", "varint"],
    ["epoch", "epoch"],
    ["cursor", "varint"],
    ["last_counter", "varint"],
    ["settled", "varint"],
    ["token", "text"],
    ["marks", { list: [["conversation", "ref"], ["delivered", "varint"], ["read", "varint"]] }],
    ["page", "text?"],
  ],
  ping: NONCE,
  pong: NONCE,
  bye: [["reason", "varint"]],
  draft: [
    ["counter", "varint"],
    ["settled", "varint"],
    ["conversation", "ref"],
    ON_LANE,
    ["body", DRAFT],
  ],
  typing: [["conversation", "ref"], ["on", "bool"]],
  mark: [["conversation", "ref"], ["delivered", "varint"], ["read", "varint"]],
  page: [
    ["request", "varint"],
    ["conversation", "ref"],
    ON_LANE,
    ["before", "varint"],
    ["limit", "varint"],
  ],
  gap: [["conversation", "ref"], ON_LANE, ["have", "varint"]],
});

/** What a server sends. */
export const DOWN: Frames = named(OPCODES.down, {
  hello_ok: [
    ["version", "byte"],
    ["caps", "varint"],
    ["epoch", "epoch"],
    ["person", "varint"],
    ["counter", "varint"],
    ["heartbeat_ms", "varint"],
    ["text_max", "varint"],
    ["batch_max", "varint"],
    ["upload_max", "varint"],
    ["unsettled_max", "varint"],
    ["now_ms", "varint"],
    ["watermark", "varint"],
  ],
  refused: REFUSAL,
  ping: NONCE,
  pong: NONCE,
  goaway: [["reason", "varint"], ["delay_ms", "varint"]],
  throttle: [["after_ms", "varint"]],
  settled: [["counter", "varint"], ["outcome", SETTLED]],
  entry: [
    ["conversation", "varint"],
    ON_LANE,
    ["seq", "varint"],
    ["position", "varint"],
    ["time_ms", "varint"],
    ["author", "varint"],
    ["body", ENTRY],
  ],
  conversation: [
    ["handle", "varint"],
    ["id", "id"],
    ["site", "text"],
    ["visitor", "varint"],
    ["assignee", "varint"],
    ["state", { choice: CONVERSATION_STATE }],
    ["public_head", "varint"],
    ["staff_head", "varint"],
    ["public_time_ms", "varint"],
    ["marks", { list: [["person", "varint"], ["delivered", "varint"], ["read", "varint"]] }],
  ],
  person: [
    ["handle", "varint"],
    ["id", "id"],
    ["kind", { choice: PERSON_KIND }],
    ["name", "text"],
    ["online", "bool"],
  ],
  typing: [["conversation", "varint"], ["person", "varint"], ["on", "bool"]],
  presence: [["person", "varint"], ["online", "bool"]],
  mark: [
    ["conversation", "varint"],
    ["person", "varint"],
    ["delivered", "varint"],
    ["read", "varint"],
  ],
  page_end: [
    ["request", "varint"],
    ["conversation", "varint"],
    ON_LANE,
    ["first", "varint"],
    ["more", "bool"],
  ],
  synced: [["cursor", "varint"]],
  resync: [["reason", "varint"]],
});
