/** Lodge's client for browsers and WebViews. */
export { connect, Client, OUTBOX_MAX } from "./client.js";
export type { ClientEvent, Config, Item, Status } from "./client.js";
export { RefusedError } from "./http.js";
export { actOf } from "./model.js";
export type { Attachment, Conversation, Entry, EntryBody, Id, Mark, Pending, Person, Refused, Target } from "./model.js";
export { IndexedStore, MemoryStore } from "./store.js";
export type { Kept, State, Store } from "./store.js";
export { LIMITS, REFUSAL } from "./wire.js";
export type { DraftBody, Lane } from "./wire.js";
export { browser } from "./world.js";
export type { Answer, Request, Transport, TransportEvents, World } from "./world.js";
