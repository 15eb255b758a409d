/**
 * What survives a reload: one row of state, the outbox, and the newest entries of each lane.
 *
 * Invariants: a counter is allotted in the same transaction that writes its row; the cursor is written
 * in the same transaction as the entries before it; every change is one transaction over all of it, so
 * two tabs of one browser never allot the same counter. Where the browser forbids storage, the same
 * rows live in memory.
 */
import type { Conversation, Entry, Id, Mark, Pending, Person } from "./model.js";

/** Entries of a lane that are read back after a reload; older ones are paged from the server. */
export const ENTRIES_KEPT_MAX = 200;

export interface State {
  device: Id;
  /** Rises with every connection of this device. */
  generation: number;
  /** The highest counter allotted to this device. */
  counter: number;
  /** The highest key given to a pending row. */
  key: number;
  epoch: string;
  cursor: number;
  token: string;
  /** The device that the token was made for. */
  token_device: Id;
  token_expires_ms: number;
  /** Who we are, as the server named us. */
  self: Id;
  vouched: boolean;
  conversations: Record<Id, Conversation>;
  persons: Record<Id, Person>;
  /** How far we got ourselves, said again in every HELLO. */
  marks: Record<Id, Mark>;
}

export interface Kept {
  state: State;
  outbox: Pending[];
}

/** What a step writes besides the state, which it changes in place. */
export interface Writes {
  put?: Pending[];
  drop?: number[];
  entries?: Entry[];
  /** Forget all entries before writing `entries`. */
  clear?: boolean;
}

export type Step = (kept: Kept) => Writes | void;

export interface Store {
  /** Everything; `fresh` where nothing was stored yet. */
  read(fresh: State): Promise<Kept & { entries: Entry[] }>;
  /** One transaction. `step` runs inside it and must not wait for anything. */
  change(step: Step): Promise<Kept>;
  /** Forgets everything, the device too. */
  forget(): Promise<void>;
}

const rowKey = (entry: Entry) => `${entry.conversation} ${entry.lane} ${entry.seq}`;

/** Rows that end with the page. */
export class MemoryStore implements Store {
  private state: State | undefined;
  private outbox = new Map<number, Pending>();
  private entries = new Map<string, Entry>();

  static holding({ state, outbox }: Kept): MemoryStore {
    const store = new MemoryStore();
    store.state = state;
    for (const row of outbox) store.outbox.set(row.key, row);
    return store;
  }

  read(fresh: State): Promise<Kept & { entries: Entry[] }> {
    this.state ??= fresh;
    return Promise.resolve({ ...this.kept(), entries: newest([...this.entries.values()]) });
  }

  change(step: Step): Promise<Kept> {
    const kept = this.kept();
    const writes = step(kept) ?? {};
    for (const row of writes.put ?? []) this.outbox.set(row.key, row);
    for (const key of writes.drop ?? []) this.outbox.delete(key);
    if (writes.clear) this.entries.clear();
    for (const entry of writes.entries ?? []) this.entries.set(rowKey(entry), entry);
    return Promise.resolve(this.kept());
  }

  forget(): Promise<void> {
    this.state = undefined;
    this.outbox.clear();
    this.entries.clear();
    return Promise.resolve();
  }

  private kept(): Kept {
    if (!this.state) throw new Error("not read yet");
    return { state: this.state, outbox: inOrder([...this.outbox.values()]) };
  }
}

/** Rows in IndexedDB, shared by the tabs of one browser. */
export class IndexedStore implements Store {
  private constructor(private readonly database: IDBDatabase) {}

  static async open(factory: IDBFactory, name: string): Promise<IndexedStore> {
    const request = factory.open(name, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("state");
      request.result.createObjectStore("outbox", { keyPath: "key" });
      request.result.createObjectStore("entries", { keyPath: ["conversation", "lane", "seq"] });
    };
    const database = await answer(request);
    database.onversionchange = () => database.close();
    return new IndexedStore(database);
  }

  async read(fresh: State): Promise<Kept & { entries: Entry[] }> {
    const { states, outboxes, entries, done } = this.transaction();
    const [state, outbox, all] = await Promise.all([
      answer<State | undefined>(states.get("state")),
      answer<Pending[]>(outboxes.getAll()),
      answer<Entry[]>(entries.getAll()),
    ]);
    const kept = newest(all);
    const keep = new Set(kept);
    for (const entry of all) {
      if (!keep.has(entry)) entries.delete([entry.conversation, entry.lane, entry.seq]);
    }
    if (!state) states.put(fresh, "state");
    await done;
    return { state: state ?? fresh, outbox: inOrder(outbox), entries: kept };
  }

  async change(step: Step): Promise<Kept> {
    const { states, outboxes, entries, done } = this.transaction();
    const [state, outbox] = await Promise.all([
      answer<State | undefined>(states.get("state")),
      answer<Pending[]>(outboxes.getAll()),
    ]);
    if (!state) throw new Error("forgotten by another tab");
    const kept = { state, outbox: inOrder(outbox) };
    const writes = step(kept) ?? {};
    states.put(state, "state");
    const rows = new Map(kept.outbox.map((row) => [row.key, row]));
    for (const row of writes.put ?? []) {
      outboxes.put(row);
      rows.set(row.key, row);
    }
    for (const key of writes.drop ?? []) {
      outboxes.delete(key);
      rows.delete(key);
    }
    if (writes.clear) entries.clear();
    for (const entry of writes.entries ?? []) entries.put(entry);
    await done;
    return { state, outbox: inOrder([...rows.values()]) };
  }

  async forget(): Promise<void> {
    const { states, outboxes, entries, done } = this.transaction();
    for (const rows of [states, outboxes, entries]) rows.clear();
    await done;
  }

  private transaction() {
    const transaction = this.database.transaction(["state", "outbox", "entries"], "readwrite");
    return {
      states: transaction.objectStore("state"),
      outboxes: transaction.objectStore("outbox"),
      entries: transaction.objectStore("entries"),
      done: ended(transaction),
    };
  }
}

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function ended(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

/** Drafts first, by counter; files that still wait for their upload behind them. */
function inOrder(rows: Pending[]): Pending[] {
  return rows.sort((a, b) => (a.counter || Infinity) - (b.counter || Infinity) || a.key - b.key);
}

/** The newest entries of each lane, in order and without holes; what a restored server lost stays marked. */
function newest(entries: Entry[]): Entry[] {
  const lanes = new Map<string, Entry[]>();
  for (const entry of entries.sort((a, b) => b.seq - a.seq)) {
    const lane = `${entry.conversation} ${entry.lane} ${entry.gone ?? false}`;
    const held = lanes.get(lane) ?? [];
    lanes.set(lane, held);
    const above = held[held.length - 1];
    const touches = !above || entry.gone || above.seq === entry.seq + 1;
    // A hole ends the run: what lies below it is paged again.
    if (touches && held.length < ENTRIES_KEPT_MAX) held.push(entry);
  }
  return [...lanes.values()].flatMap((held) => held.reverse());
}
