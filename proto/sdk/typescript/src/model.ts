/** What a client holds, named by ids: handles belong to one connection and never leave `link`. */
import type { ConversationState, DraftBody, EntryBody as WireBody, Lane, PersonKind } from "./wire.js";

/** 16 bytes in 22 characters of base64url. */
export type Id = string;
/** Bytes of the entry with persons by id; "" = nobody, or the system. */
export type EntryBody =
  | Exclude<WireBody, { kind: "opened" | "assigned" | "joined" }>
  | { kind: "opened"; visitor: Id; page: string }
  | { kind: "assigned"; agent: Id; why: string }
  | { kind: "joined"; agent: Id };

export interface Person {
  id: Id;
  kind: PersonKind;
  name: string;
  online: boolean;
}

export interface Mark {
  delivered: number;
  read: number;
}

export interface Conversation {
  id: Id;
  site: string;
  visitor: Id;
  assignee: Id;
  state: ConversationState;
  public_head: number;
  staff_head: number;
  public_time_ms: number;
  marks: Record<Id, Mark>;
}

export interface Entry {
  conversation: Id;
  lane: Lane;
  seq: number;
  position: number;
  time_ms: number;
  author: Id;
  body: EntryBody;
  /** Held from a history that was since restored from a backup: the server no longer has it. */
  gone?: boolean;
}

/** Where something is sent: the visitor's own conversation, or one of an agent's. */
export type Target = Id | "mine";

/** Something that the server has not answered yet, or refused. */
export interface Pending {
  /** Of this store, never reused. */
  key: number;
  /** 0 while the file is still to be uploaded: a counter is allotted once the draft can be sent. */
  counter: number;
  conversation: Target;
  lane: Lane;
  body: DraftBody | null;
  file?: Attachment;
  made_ms: number;
  /** It will not be sent again by itself. */
  refused?: Refused;
}

export interface Attachment {
  blob: Blob;
  name: string;
  caption: string;
}

export interface Refused {
  code: number;
  text: string;
}

/** A refusal as it came. */
export interface Refusal extends Refused {
  retry_after_ms: number;
}

/** What a client does about a refusal, whether it knows the number or not. */
export type Act = "retry" | "anew" | "login" | "never";
export const actOf = (code: number): Act =>
  (["retry", "anew", "login"] as const)[Math.floor(code / 1000) - 1] ?? "never";
