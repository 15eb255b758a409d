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

const ON_LANE: readonly [string, Shape] = ["lane", { choice: LANE }];

const NONCE: Fields = [["nonce", "varint"]];
const REFUSAL: Fields = [["code", "varint"], ["text", "text"], ["retry_after_ms", "varint"]];

const DRAFT: Shape = {
  open: true,
  union: [
    [DRAFT_BODY.text, "text", [["text", "text"]]],
    [DRAFT_BODY.file, "file", [["upload", "text"], ["name", "text"], ["caption", "text"]]],
    [DRAFT_BODY.close, "close", []],
  ],
};

const ENTRY: Shape = {
  open: true,
  union: [
    [ENTRY_BODY.text, "text", [["text", "text"]]],
    [ENTRY_BODY.file, "file", [
      ["name", "text"],
      ["mime", "text"],
      ["size", "varint"],
      ["width", "varint"],
      ["height", "varint"],
      ["caption", "text"],
    ]],
    [ENTRY_BODY.closed, "closed", []],
    [ENTRY_BODY.opened, "opened", [["visitor", "varint"], ["page", "text"]]],
    [ENTRY_BODY.assigned, "assigned", [["agent", "varint"], ["why", "text"]]],
    [ENTRY_BODY.joined, "joined", [["agent", "varint"]]],
    [ENTRY_BODY.reopened, "reopened", []],
  ],
};

const SETTLED: Shape = {
  open: false,
  union: [
    [OUTCOME.accepted, "accepted", [
      ["conversation", "varint"],
      ON_LANE,
      ["seq", "varint"],
      ["position", "varint"],
      ["time_ms", "varint"],
    ]],
    [OUTCOME.refused, "refused", REFUSAL],
  ],
};

/** What a client sends. */
export const UP: Frames = [
  [OPCODES.up.hello, "hello", [
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
  ]],
  [OPCODES.up.ping, "ping", NONCE],
  [OPCODES.up.pong, "pong", NONCE],
  [OPCODES.up.bye, "bye", [["reason", "varint"]]],
  [OPCODES.up.draft, "draft", [
    ["counter", "varint"],
    ["settled", "varint"],
    ["conversation", "ref"],
    ON_LANE,
    ["body", DRAFT],
  ]],
  [OPCODES.up.typing, "typing", [["conversation", "ref"], ["on", "bool"]]],
  [OPCODES.up.mark, "mark", [["conversation", "ref"], ["delivered", "varint"], ["read", "varint"]]],
  [OPCODES.up.page, "page", [
    ["request", "varint"],
    ["conversation", "ref"],
    ON_LANE,
    ["before", "varint"],
    ["limit", "varint"],
  ]],
  [OPCODES.up.gap, "gap", [["conversation", "ref"], ON_LANE, ["have", "varint"]]],
];

/** What a server sends. */
export const DOWN: Frames = [
  [OPCODES.down.hello_ok, "hello_ok", [
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
  ]],
  [OPCODES.down.refused, "refused", REFUSAL],
  [OPCODES.down.ping, "ping", NONCE],
  [OPCODES.down.pong, "pong", NONCE],
  [OPCODES.down.goaway, "goaway", [["reason", "varint"], ["delay_ms", "varint"]]],
  [OPCODES.down.throttle, "throttle", [["after_ms", "varint"]]],
  [OPCODES.down.settled, "settled", [["counter", "varint"], ["outcome", SETTLED]]],
  [OPCODES.down.entry, "entry", [
    ["conversation", "varint"],
    ON_LANE,
    ["seq", "varint"],
    ["position", "varint"],
    ["time_ms", "varint"],
    ["author", "varint"],
    ["body", ENTRY],
  ]],
  [OPCODES.down.conversation, "conversation", [
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
  ]],
  [OPCODES.down.person, "person", [
    ["handle", "varint"],
    ["id", "id"],
    ["kind", { choice: PERSON_KIND }],
    ["name", "text"],
    ["online", "bool"],
  ]],
  [OPCODES.down.typing, "typing", [["conversation", "varint"], ["person", "varint"], ["on", "bool"]]],
  [OPCODES.down.presence, "presence", [["person", "varint"], ["online", "bool"]]],
  [OPCODES.down.mark, "mark", [
    ["conversation", "varint"],
    ["person", "varint"],
    ["delivered", "varint"],
    ["read", "varint"],
  ]],
  [OPCODES.down.page_end, "page_end", [
    ["request", "varint"],
    ["conversation", "varint"],
    ON_LANE,
    ["first", "varint"],
    ["more", "bool"],
  ]],
  [OPCODES.down.synced, "synced", [["cursor", "varint"]]],
  [OPCODES.down.resync, "resync", [["reason", "varint"]]],
];
