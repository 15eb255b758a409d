/**
 * The client's end of a session: keeps what was written until the server has answered it, and what was
 * received in order and without holes.
 *
 * Invariants: a draft leaves the outbox only with its answer; its counter never carries another body;
 * "connected" means HELLO_OK arrived; entries are shown once, however often they come; the cursor is
 * stored with the entries before it, and said only by a tab that holds them.
 *
 * Of the tabs of one browser, the one with the connection sends all that is in the outbox; the one that
 * wrote it takes the connection itself where that does not happen.
 */
import { decodeDown, encodeUp, toBase64 } from "./codec.js";
import { Addresses, bodyOf, RefusedError } from "./http.js";
import { LaneRun } from "./lane.js";
import { actOf, type Attachment, type Conversation, type Entry, type EntryBody, type Id } from "./model.js";
import type { Mark, Pending, Person, Refusal, Refused, Target } from "./model.js";
import { MemoryStore, type Kept, type State, type Step, type Store } from "./store.js";
import { LIMITS, REFUSAL, VERSION } from "./wire.js";
import type { Down, DownConversation, DownEntry, DownHelloOk, DraftBody, Lane, Outcome, Up } from "./wire.js";
import { browser, type Transport, type World } from "./world.js";

/** What may wait in the outbox; more is refused where it is written. */
export const OUTBOX_MAX = 256;
const HELLO_MS_MAX = 10_000;
const PONG_MS_MAX = 10_000;
const PROBE_MS_MAX = 3_000;
const BACKOFF_MS_MIN = 500;
const BACKOFF_MS_MAX = 20_000;
/** A connection that lived this long was a good one: the next one is not held back. */
const GOOD_MS_MIN = 10_000;
const WAKE_MS_MIN = 1_000;
/** How long the tab that has the connection may take to send what this one wrote; doubled each time it did not. */
const UNSENT_MS_MIN = 5_000;
const UNSENT_MS_MAX = 300_000;
const MARK_MS_MIN = 1_000;
const TYPING_MS_MIN = 3_000;
const TYPING_MS_MAX = 6_000;
const PAGE_ENTRIES = 40;
const TOKEN_SPARE_MS = 60_000;
const NO_EPOCH = "AAAAAAAAAAA";

export interface Config {
  /** Where the server is, such as "https://chat.example.org:8443". */
  server_url: string;
  /** The site; without it the connection is an agent's, whose cookie speaks. */
  app_id?: string;
  app_secret?: string;
  /** Asks the site's back end to vouch for the visitor, "" for a stranger; called whenever a token is needed. */
  identity?: () => Promise<string>;
  /** Address of the page that the visitor is on; what stands behind its # stays here. */
  page?: string;
}

/** Tokens travel behind the #, so that is nobody else's; a question that is too long is left out. */
function pageOf(address: string): string {
  const [page = ""] = address.split("#");
  const [place = ""] = page.split("?");
  return [page, place].find((it) => it.length <= LIMITS.token_bytes_max) ?? "";
}

export type Status =
  /** Not asked to connect. */
  | "idle"
  | "connecting"
  | "connected"
  /** Waits before it tries again. */
  | "waiting"
  /** Another tab has the connection; it comes back with the person. */
  | "elsewhere"
  /** An agent must sign in, or the site must vouch again. */
  | "login"
  /** The server will not have this client; see `refusal`. */
  | "refused";

export type ClientEvent =
  | { type: "status"; status: Status }
  /** The outbox or any entry changed. */
  | { type: "timeline" }
  | { type: "entries"; entries: Entry[] }
  | { type: "conversation"; conversation: Conversation }
  | { type: "person"; person: Person }
  | { type: "typing"; conversation: Id; person: Id; on: boolean }
  | { type: "progress"; key: number; sent: number; total: number };

/** One thing of a timeline: what happened, or what is still on its way. `key` outlives the change from one to the other. */
export type Item =
  | { key: string; entry: Entry; pending?: undefined }
  | { key: string; entry?: undefined; pending: Pending; accepted: boolean };

/** One connection: what only makes sense while it lives. */
interface Link {
  transport: Transport;
  device: Id;
  opened_ms: number;
  heard_ms: number;
  greeted: boolean;
  heartbeat_ms: number;
  unsettled_max: number;
  conversations: Map<number, Id>;
  handles: Map<Id, number>;
  persons: Map<number, Id>;
  /** Counters that were sent here and not answered yet. */
  sent: Set<number>;
  /** Lanes whose hole was asked for, and from where. */
  gaps: Map<LaneRun, number>;
  cloned: boolean;
  stopBeat: () => void;
}

/** What the frames of one batch change in the store, in one step. */
interface Changes {
  entries: Entry[];
  answers: Map<number, Outcome>;
  cursor: number;
  state: boolean;
}

interface PageAsked {
  conversation: Id;
  lane: Lane;
  done: (more: boolean) => void;
  promise: Promise<boolean>;
}

/** Opens a client. It connects at once unless `start` is false. */
export function connect(config: Config, { world = browser(), start = true } = {}): Client {
  const client = new Client(config, world);
  if (start) void client.open();
  return client;
}

export class Client {
  status: Status = "idle";
  /** Why the status is "refused" or "login". */
  refusal: Refused | null = null;
  /** Bytes that an upload may have. */
  upload_max = 0;
  readonly conversations = new Map<Id, Conversation>();
  readonly persons = new Map<Id, Person>();
  outbox: Pending[] = [];

  private readonly addresses: Addresses;
  private readonly listeners = new Set<(event: ClientEvent) => void>();
  private store: Store | undefined;
  private loading: Promise<void> | undefined;
  /** Whoever opens it again meanwhile waits until nothing is left. */
  private forgetting = Promise.resolve();
  private state!: State;
  /** Whose entries this page holds, and how far; the store may be another tab's step ahead of it. */
  private held!: { device: Id; cursor: number };
  /** Keys of what was written in this page. */
  private readonly written = new Set<number>();
  private unsent_ms = UNSENT_MS_MIN;
  private readonly runs = new Map<string, LaneRun>();
  /** Entries of a history that was restored from a backup since. */
  private readonly gone = new Map<string, Entry>();
  /** Drafts that were accepted and whose entry has not come yet, by their place. */
  private readonly echoes = new Map<string, Pending>();
  /** Own entries that came before their answer: the draft of that key is hidden meanwhile. */
  private readonly claims = new Map<number, string>();
  /** Which draft of this page became which entry. */
  private readonly origins = new Map<string, number>();

  private link: Link | null = null;
  private attempt = 0;
  private attempted_ms = -Infinity;
  private asleep = false;
  private failures = 0;
  private stopWaiting = () => {};
  private stopHolding: (() => void) | null = null;
  private identityDue: boolean;
  private uploading = 0;
  private stopUploadWait: (() => void) | null = null;
  private request = 0;
  private readonly pages = new Map<number, PageAsked>();
  private readonly marksDue = new Set<Id>();
  private stopMarking: (() => void) | null = null;
  private marked_ms = -Infinity;
  private readonly typed_ms = new Map<Target, number>();
  private readonly typists = new Map<string, () => void>();
  private stopListening = () => {};
  private tabs = { changed() {}, close() {} };

  constructor(
    private readonly config: Config,
    private readonly world: World,
  ) {
    this.addresses = new Addresses(config.server_url, config.app_id);
    this.identityDue = config.identity !== undefined;
    this.forgetPerson(this.freshState());
  }

  /** Who we are: "" until the server has said so for the first time. */
  get self(): Id {
    return this.state.self;
  }

  /** A visitor's conversation that goes on, or the one that was last. */
  get current(): Conversation | undefined {
    let newest: Conversation | undefined;
    for (const conversation of this.conversations.values()) {
      if (conversation.visitor !== this.self) continue;
      if (!newest || conversation.public_time_ms >= newest.public_time_ms) newest = conversation;
    }
    return newest;
  }

  on(listener: (event: ClientEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Reads what an earlier page kept, without connecting. */
  load(): Promise<void> {
    return (this.loading ??= this.forgetting.then(() => this.read()));
  }

  async open(): Promise<void> {
    await this.load();
    if (this.status !== "idle") return;
    const wake = this.world.onwake(() => this.wake());
    const sleep = this.world.onsleep(() => this.sleep());
    this.stopListening = () => (wake(), sleep());
    void this.connect();
  }

  /** Leaves. What is in the outbox stays there. */
  close(): void {
    if (this.link?.greeted) this.say(this.link, [{ op: "bye", reason: 2 }]);
    this.stop("idle");
    this.stopListening();
    this.tabs.close();
    for (const page of this.pages.values()) page.done(false);
    this.pages.clear();
  }

  /** Forgets this visitor on this device: the next `open` is a stranger's. */
  forget(): Promise<void> {
    this.close();
    this.loading = undefined;
    const forget = async () => {
      await this.store?.forget();
      this.forgetPerson(this.freshState());
      this.outbox = [];
      this.emit({ type: "timeline" });
    };
    return (this.forgetting = forget());
  }

  /** Takes the connection from the tab that has it. */
  takeOver(): void {
    if (this.status === "elsewhere" || this.status === "waiting") void this.connect();
  }

  /** The site vouches for somebody else, or again: the next connection asks `identity` anew. */
  identify(): void {
    this.identityDue = true;
    if (this.status !== "idle") this.again(0);
  }

  /** Resolves when the text is kept on this device; sending is the client's own affair from then on. */
  async send(text: string, to: Target = "mine", lane: Lane = "public"): Promise<void> {
    if (new TextEncoder().encode(text).length > LIMITS.text_bytes_max) {
      throw new RefusedError(REFUSAL.TextTooLong, "The text is too long.");
    }
    await this.write({ kind: "text", text }, to, lane);
  }

  async endConversation(to: Target = "mine"): Promise<void> {
    await this.write({ kind: "close" }, to, "public");
  }

  async sendFile(blob: Blob, name: string, to: Target = "mine", lane: Lane = "public", caption = ""): Promise<void> {
    if (this.upload_max && blob.size > this.upload_max) {
      throw new RefusedError(REFUSAL.TooLarge, "This is too large.");
    }
    await this.write(null, to, lane, { blob, name: shortened(name), caption });
  }

  /** Sends again, as a new draft, what was refused. */
  async retry(key: number): Promise<void> {
    await this.change(({ state, outbox }) => {
      const row = outbox.find((row) => row.key === key && row.refused);
      if (!row) return;
      delete row.refused;
      if (row.file) [row.counter, row.body] = [0, null];
      else row.counter = state.counter += 1;
      this.written.add(key);
      return { put: [row] };
    });
    this.sendWritten();
  }

  /** Takes back what was refused, or a file that has not been uploaded yet. */
  async discard(key: number): Promise<void> {
    await this.change(({ outbox }) => {
      const row = outbox.find((row) => row.key === key && (row.refused || !row.counter));
      return row && { drop: [key] };
    });
    this.emit({ type: "timeline" });
  }

  /** Asks for older entries; resolves with whether there may be more. */
  history(to: Target = "mine", lane: Lane = "public"): Promise<boolean> {
    const conversation = this.idOf(to);
    if (conversation === undefined) return Promise.resolve(false);
    if (this.run(conversation, lane).low === 1) return Promise.resolve(false);
    for (const page of this.pages.values()) {
      if (page.conversation === conversation && page.lane === lane) return page.promise;
    }
    let done!: (more: boolean) => void;
    const promise = new Promise<boolean>((resolve) => (done = resolve));
    this.request += 1;
    this.pages.set(this.request, { conversation, lane, done, promise });
    this.askPage(this.request);
    return promise;
  }

  /** Asks for what came behind what is held: the server tells of a conversation by itself only to those who are in it. */
  newer(to: Target): void {
    const { link } = this;
    const conversation = this.idOf(to);
    if (conversation === undefined || !link?.greeted || !this.run(conversation, "public").high) return;
    for (const lane of ["public", "staff"] as const) {
      const run = this.run(conversation, lane);
      link.gaps.delete(run);
      this.askGap(link, conversation, lane, run);
    }
  }

  /** What is held of a lane, oldest first, and what waits behind it. */
  timeline(to: Target = "mine", lane: Lane = "public"): Item[] {
    const conversation = this.idOf(to);
    const items: Item[] = [];
    if (conversation !== undefined) {
      const run = this.run(conversation, lane);
      for (const entry of run.entries) items.push({ key: this.keyOf(entry), entry });
      for (const entry of this.gone.values()) {
        if (entry.conversation === conversation && entry.lane === lane && entry.seq > run.high) {
          items.push({ key: `gone ${placeOf(entry)}`, entry });
        }
      }
      for (const [place, pending] of this.echoes) {
        if (place.startsWith(`${conversation} ${lane} `)) {
          items.push({ key: `draft ${pending.key}`, pending, accepted: true });
        }
      }
    }
    for (const pending of this.outbox) {
      const belongs = pending.conversation === to || pending.conversation === conversation;
      if (!belongs || pending.lane !== lane || this.claims.has(pending.key)) continue;
      items.push({ key: `draft ${pending.key}`, pending, accepted: false });
    }
    return items;
  }

  /** Says that everything up to `seq` was on a screen. */
  read_up_to(seq: number, to: Target = "mine"): void {
    const conversation = this.idOf(to);
    if (conversation !== undefined) this.mark(conversation, { delivered: seq, read: seq });
  }

  /** How far we have read ourselves. */
  ownMark(conversation: Id): Mark {
    const own = this.conversations.get(conversation)?.marks[this.self];
    const here = this.state.marks[conversation];
    return {
      delivered: Math.max(own?.delivered ?? 0, here?.delivered ?? 0),
      read: Math.max(own?.read ?? 0, here?.read ?? 0),
    };
  }

  /** Called at every key stroke; says no more than the others need to know. */
  typing(on: boolean, to: Target = "mine"): void {
    const last = this.typed_ms.get(to) ?? -Infinity;
    const now = this.world.now();
    if (on ? now - last < TYPING_MS_MIN : last === -Infinity) return;
    this.typed_ms.set(to, on ? now : -Infinity);
    const conversation = to === "mine" ? "mine" : to;
    if (this.link?.greeted && this.idOf(to) !== undefined) this.say(this.link, [{ op: "typing", conversation, on }]);
  }

  /** The bytes of a file entry. */
  async file(entry: Entry): Promise<Blob> {
    const path = `files/${entry.conversation}/${entry.lane}/${entry.seq}`;
    return this.world.fetchBlob(this.addresses.at(path), await this.authorization());
  }

  /** How the site wants its chat to look: the public answer of `/api/v1/site`. */
  async site(): Promise<Record<string, unknown>> {
    return bodyOf(await this.world.request({ method: "GET", url: this.addresses.at("site"), headers: {} }));
  }

  // ---- the connection ---------------------------------------------------------------------------

  private async connect(): Promise<void> {
    this.asleep = false;
    this.stopWaiting();
    this.drop();
    const attempt = (this.attempt += 1);
    this.attempted_ms = this.world.now();
    this.become("connecting");
    try {
      const token = this.config.app_id === undefined ? "" : await this.token();
      await this.change(({ state }) => void (state.generation += 1));
      // What another tab has stored lies before the cursor: the server would not tell it here.
      if (this.state.device !== this.held.device || this.state.cursor > this.held.cursor) await this.restore();
      if (attempt === this.attempt) this.dial(token);
    } catch (thrown) {
      if (attempt !== this.attempt) return;
      if (thrown instanceof RefusedError) this.obey(thrown);
      else this.again();
    }
  }

  private dial(token: string): void {
    const now = this.world.now();
    const link: Link = {
      transport: { send() {}, close() {} },
      device: this.state.device,
      opened_ms: now,
      heard_ms: now,
      greeted: false,
      heartbeat_ms: HELLO_MS_MAX,
      unsettled_max: LIMITS.unsettled_max,
      conversations: new Map(),
      handles: new Map(),
      persons: new Map(),
      sent: new Set(),
      gaps: new Map(),
      cloned: false,
      stopBeat: this.world.after(HELLO_MS_MAX, () => this.lost(link)),
    };
    const { device, generation, epoch, cursor, counter, marks } = this.state;
    const hello: Up = {
      op: "hello",
      version: VERSION,
      caps: 0,
      device,
      generation,
      epoch,
      cursor,
      last_counter: counter,
      settled: this.settled,
      token,
      marks: Object.keys(marks)
        .slice(-LIMITS.marks_max)
        .map((conversation) => ({ conversation, ...(marks[conversation] as Mark) })),
      page: pageOf(this.config.page ?? ""),
    };
    this.link = link;
    link.transport = this.world.open(this.addresses.at("session"), {
      onopen: () => link === this.link && this.say(link, [hello]),
      onbatch: (batch) => link === this.link && this.receive(link, batch),
      onclose: () => this.lost(link),
    });
  }

  /** Below this counter every answer is held. */
  private get settled(): number {
    const waiting = this.outbox.find((row) => row.counter && !row.refused);
    return waiting ? waiting.counter : this.state.counter + 1;
  }

  private lost(link: Link): void {
    if (link !== this.link) return;
    if (link.greeted && this.world.now() - link.opened_ms > GOOD_MS_MIN) this.failures = 0;
    this.again();
  }

  /** Tries again: after `ms`, or after a back-off of full jitter. */
  private again(ms?: number): void {
    this.drop();
    this.attempt += 1;
    const cap = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.failures);
    this.failures = Math.min(this.failures + 1, 16);
    this.stopWaiting();
    this.stopWaiting = this.world.after(ms ?? this.world.random() * cap + 50, () => void this.connect());
    this.become("waiting");
  }

  /** Ends the connection, if there is one, without judging it. */
  private drop(): void {
    const link = this.link;
    this.link = null;
    this.stopHolding?.();
    this.stopHolding = null;
    if (!link) return;
    link.stopBeat();
    link.transport.close();
    for (const [key, stop] of this.typists) {
      stop();
      this.typists.delete(key);
    }
  }

  private stop(status: Status): void {
    this.attempt += 1;
    this.stopWaiting();
    this.stopMarking?.();
    this.stopMarking = null;
    this.stopUploadWait?.();
    this.stopUploadWait = null;
    this.drop();
    this.become(status);
  }

  /** The network or the person is back: what we believe about the connection may be hours old. */
  private wake(): void {
    const link = this.link;
    if (link?.greeted) this.probe(link, PROBE_MS_MAX);
    else if (this.status === "elsewhere" || (this.status === "waiting" && (this.asleep || this.world.now() - this.attempted_ms >= WAKE_MS_MIN))) {
      this.failures = 0;
      void this.connect();
    }
  }

  /** The page leaves the screen for good or for a while: push may take over, and `wake` comes back. */
  private sleep(): void {
    if (this.link?.greeted) this.say(this.link, [{ op: "bye", reason: 1 }]);
    if (this.status !== "connected") return;
    // Nothing is due any more: only `wake` ends this, however soon it comes.
    this.asleep = true;
    this.stop("waiting");
  }

  /** Silence beyond the server's heartbeat is asked about, and an unanswered question ends the connection. */
  private beat(link: Link): void {
    link.stopBeat();
    const silence = this.world.now() - link.heard_ms;
    const wait = Math.max(link.heartbeat_ms * 1.25 - silence, 0);
    link.stopBeat = this.world.after(wait, () => {
      if (this.world.now() - link.heard_ms < link.heartbeat_ms * 1.25) this.beat(link);
      else this.probe(link, PONG_MS_MAX);
    });
  }

  private probe(link: Link, ms: number): void {
    const asked_ms = this.world.now();
    this.say(link, [{ op: "ping", nonce: asked_ms % 0x7fffffff | 0 }]);
    link.stopBeat();
    link.stopBeat = this.world.after(ms, () => {
      if (link.heard_ms >= asked_ms && link.heard_ms !== link.opened_ms) this.beat(link);
      else this.lost(link);
    });
  }

  private obey({ code, text, retry_after_ms }: Refusal): void {
    this.refusal = { code, text };
    const login = actOf(code) === "login" && code !== REFUSAL.Origin;
    if (code === REFUSAL.Fenced) this.giveWay();
    else if (mayComeAgain(code)) this.again(retry_after_ms * (1 + this.world.random() / 4) || undefined);
    else if (actOf(code) === "anew") void this.renew().then(() => this.again());
    else if (login && this.config.app_id !== undefined && this.failures < 3) {
      this.identityDue = this.config.identity !== undefined;
      void this.change(({ state }) => void (state.token_expires_ms = 0)).then(() => this.again());
    } else this.stop(login ? "login" : "refused");
  }

  /** Another tab has the connection, and sends what is in the outbox. */
  private giveWay(): void {
    this.stop("elsewhere");
    // Behind what the same batch brought, which is not in the store yet.
    queueMicrotask(() => void this.otherTab());
    // That tab may be frozen, gone, or deaf: what was written here does not wait for it for ever.
    this.stopWaiting = this.world.after(this.unsent_ms * (1 + this.world.random()), async () => {
      await this.otherTab();
      if (this.status !== "elsewhere" || !this.hasUnsent) return;
      this.unsent_ms = Math.min(this.unsent_ms * 2, UNSENT_MS_MAX);
      void this.connect();
    });
  }

  private get hasUnsent(): boolean {
    return this.outbox.some(({ key, refused }) => !refused && this.written.has(key));
  }

  private become(status: Status): void {
    if (this.status === status) return;
    this.status = status;
    this.emit({ type: "status", status });
  }

  private emit(event: ClientEvent): void {
    for (const listener of [...this.listeners]) listener(event);
  }

  // ---- who we are -------------------------------------------------------------------------------

  /** A token for this device, from the store, from the site's word, or as a new stranger's. */
  private async token(): Promise<string> {
    for (;;) {
      const { device, token, token_device, token_expires_ms, self } = this.state;
      const current = token && token_device === device && token_expires_ms > this.world.now() + TOKEN_SPARE_MS;
      if (current && !this.identityDue) return token;
      const identity = this.config.identity ? await this.config.identity() : "";
      // The site has nothing to say: whoever we were, we still are.
      if (current && !identity) {
        this.identityDue = false;
        return token;
      }
      const asked = {
        device,
        ...(this.config.app_secret && { secret: this.config.app_secret }),
        ...(identity ? { identity } : token && { token }),
      };
      let answer: Record<string, unknown>;
      try {
        answer = bodyOf(
          await this.world.request({
            method: "POST",
            url: this.addresses.at("visitor/token"),
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify(asked),
          }),
        );
      } catch (thrown) {
        const outdated = thrown instanceof RefusedError && actOf(thrown.code) === "login" && token && !identity;
        if (!outdated || thrown.code === REFUSAL.Origin) throw thrown;
        // Nobody can say any more who we were.
        await this.becomeAnother();
        continue;
      }
      const visitor = String(answer.visitor);
      if (self && visitor !== self) {
        await this.becomeAnother();
        continue;
      }
      this.identityDue = false;
      await this.change(({ state }) => {
        state.token = String(answer.token);
        state.token_device = device;
        state.token_expires_ms = Number(answer.expires_at_ms) || 0;
        state.self = visitor;
        state.vouched = answer.vouched === true;
      });
    }
  }

  private async authorization(): Promise<Record<string, string>> {
    if (this.config.app_id === undefined) return { "X-Lodge": "1" };
    return { Authorization: `Bearer ${this.state.token || (await this.token())}` };
  }

  /** A new device of the same person: what is unanswered is numbered and sent again. */
  private async renew(): Promise<void> {
    const device = this.newId();
    this.held.device = device;
    await this.change((kept) => ({ put: renumber(kept, device) }));
  }

  /** Another person: nothing of the one before is shown, and nothing a known one wrote is sent. */
  private async becomeAnother(): Promise<void> {
    const fresh = this.freshState();
    this.forgetPerson(fresh);
    await this.change((kept) => {
      const { vouched, key } = kept.state;
      Object.assign(kept.state, fresh, { key });
      if (vouched) return { clear: true, drop: kept.outbox.map((row) => row.key) };
      return { clear: true, put: renumber(kept, fresh.device) };
    });
    this.emit({ type: "timeline" });
  }

  private forgetPerson(state: State): void {
    this.state = state;
    this.held = { device: state.device, cursor: 0 };
    for (const held of [this.conversations, this.persons, this.runs, this.gone, this.echoes, this.marksDue]) held.clear();
    this.claims.clear();
    this.origins.clear();
  }

  /** The server's history was restored from a backup: a new device, and what we hold is no longer proven. */
  private async newEpoch(epoch: string): Promise<void> {
    const device = this.newId();
    for (const run of this.runs.values()) {
      for (const entry of run.entries) this.gone.set(placeOf(entry), { ...entry, gone: true });
    }
    this.runs.clear();
    this.echoes.clear();
    this.held = { device, cursor: 0 };
    const entries = [...this.gone.values()];
    await this.change((kept) => {
      Object.assign(kept.state, { epoch, cursor: 0, marks: {} });
      return { put: renumber(kept, device), clear: true, entries };
    });
    this.again(0);
  }

  private freshState(): State {
    return {
      device: this.newId(),
      generation: 0,
      counter: 0,
      key: 0,
      epoch: NO_EPOCH,
      cursor: 0,
      token: "",
      token_device: "",
      token_expires_ms: 0,
      self: "",
      vouched: false,
      conversations: {},
      persons: {},
      marks: {},
    };
  }

  private newId(): Id {
    return toBase64(this.world.bytes(16));
  }

  // ---- what comes in ----------------------------------------------------------------------------

  private receive(link: Link, batch: Uint8Array): void {
    link.heard_ms = this.world.now();
    let frames: Down[];
    try {
      frames = decodeDown(batch);
    } catch {
      return this.lost(link);
    }
    const changes: Changes = { entries: [], answers: new Map(), cursor: 0, state: false };
    for (const frame of frames) {
      this.take(link, frame, changes);
      if (link !== this.link) break;
    }
    if (link === this.link) this.fillHoles(link);
    if (changes.state || changes.entries.length || changes.answers.size || changes.cursor) {
      void this.keep(link, changes);
    }
  }

  private take(link: Link, frame: Down, changes: Changes): void {
    switch (frame.op) {
      case "hello_ok":
        return this.greeted(link, frame, changes);
      case "refused":
        return this.obey(frame);
      case "ping":
        return this.say(link, [{ op: "pong", nonce: frame.nonce }]);
      case "goaway":
        return void this.world.after(frame.delay_ms, () => link === this.link && this.again(0));
      case "throttle":
        return this.hold(frame.after_ms);
      case "settled":
        if (link.device !== this.state.device) return;
        changes.answers.set(frame.counter, frame.outcome);
        return this.settle(link, frame);
      case "entry":
        return this.takeEntry(link, frame, changes);
      case "conversation":
        return this.takeConversation(link, frame, changes);
      case "person": {
        const { handle, id, kind, name, online } = frame;
        link.persons.set(handle, id);
        this.setPerson({ id, kind, name, online }, changes);
        return;
      }
      case "presence": {
        const person = this.persons.get(link.persons.get(frame.person) ?? "");
        if (person) this.setPerson({ ...person, online: frame.online }, changes);
        return;
      }
      case "typing":
        return this.takeTyping(link, frame.conversation, frame.person, frame.on);
      case "mark": {
        const conversation = this.conversations.get(link.conversations.get(frame.conversation) ?? "");
        const person = link.persons.get(frame.person);
        if (!conversation || person === undefined) return;
        conversation.marks[person] = { delivered: frame.delivered, read: frame.read };
        changes.state = true;
        return this.emit({ type: "conversation", conversation });
      }
      case "page_end": {
        const page = this.pages.get(frame.request);
        this.pages.delete(frame.request);
        const id = link.conversations.get(frame.conversation);
        const added = id === undefined ? [] : this.run(id, frame.lane).join();
        for (const entry of added) {
          this.gone.delete(placeOf(entry));
          this.echoes.delete(placeOf(entry));
        }
        changes.entries.push(...added);
        if (added.length) this.emit({ type: "entries", entries: added });
        page?.done(frame.more);
        return this.emit({ type: "timeline" });
      }
      case "synced":
        changes.cursor = frame.cursor;
        this.held.cursor = Math.max(this.held.cursor, frame.cursor);
        return this.catchUp(link);
      case "resync":
        for (const run of this.runs.values()) run.stale = true;
        return;
    }
  }

  private greeted(link: Link, frame: DownHelloOk, changes: Changes): void {
    const { epoch } = this.state;
    if (epoch !== NO_EPOCH && epoch !== frame.epoch) {
      this.drop();
      void this.newEpoch(frame.epoch);
      return;
    }
    link.greeted = true;
    link.heartbeat_ms = Math.max(frame.heartbeat_ms, 1_000);
    link.unsettled_max = frame.unsettled_max;
    this.upload_max = frame.upload_max;
    this.state.epoch = frame.epoch;
    this.state.self = link.persons.get(frame.person) ?? this.state.self;
    changes.state = true;
    this.refusal = null;
    this.beat(link);
    this.become("connected");
    this.flush();
    for (const request of this.pages.keys()) this.askPage(request);
    // The connection before may have told how far things are and ended before it brought them.
    this.catchUp(link);
    if (this.current && this.run(this.current.id, "public").entries.length < PAGE_ENTRIES) void this.history("mine");
    void this.upload();
  }

  private takeEntry(link: Link, frame: DownEntry, changes: Changes): void {
    const conversation = link.conversations.get(frame.conversation);
    const body = this.named(link, frame.body);
    if (conversation === undefined || !body) return;
    const { lane, seq, position, time_ms } = frame;
    const author = link.persons.get(frame.author) ?? "";
    const run = this.run(conversation, lane);
    const added = run.take({ conversation, lane, seq, position, time_ms, author, body });
    if (!added.length) return;
    const head = this.conversations.get(conversation);
    for (const entry of added) {
      const place = placeOf(entry);
      this.gone.delete(place);
      if (entry.author === this.self && !this.echoes.delete(place)) this.claim(link, entry, place);
      if (!head) continue;
      if (lane === "staff") head.staff_head = Math.max(head.staff_head, entry.seq);
      else if (entry.seq > head.public_head) [head.public_head, head.public_time_ms] = [entry.seq, entry.time_ms];
      if (entry.body.kind === "closed") head.state = "closed";
      if (entry.body.kind === "reopened" || entry.body.kind === "opened") head.state = "open";
    }
    changes.entries.push(...added);
    if (lane === "public") this.mark(conversation, { delivered: run.high, read: 0 });
    this.emit({ type: "entries", entries: added });
    if (head) this.emit({ type: "conversation", conversation: head });
  }

  /** Our own entry came before the answer to its draft: one of the two is shown. */
  private claim(link: Link, entry: Entry, place: string): void {
    const row = this.outbox.find(
      (row) =>
        link.sent.has(row.counter) &&
        !this.claims.has(row.key) &&
        row.lane === entry.lane &&
        (row.conversation === "mine" || row.conversation === entry.conversation) &&
        sameBody(row.body, entry.body),
    );
    if (!row) return;
    this.claims.set(row.key, place);
    this.origins.set(place, row.key);
  }

  private takeConversation(link: Link, frame: DownConversation, changes: Changes): void {
    const { op, handle, ...head } = frame;
    const { id, public_head, staff_head } = head;
    link.conversations.set(handle, id);
    link.handles.set(id, handle);
    const person = (handle: number) => link.persons.get(handle) ?? "";
    const marks: Record<Id, Mark> = {};
    for (const { person: member, delivered, read } of frame.marks) marks[person(member)] = { delivered, read };
    const conversation: Conversation = { ...head, visitor: person(head.visitor), assignee: person(head.assignee), marks };
    this.conversations.set(id, conversation);
    changes.state = true;
    for (const [lane, head] of [["public", public_head], ["staff", staff_head]] as const) {
      const run = this.runs.get(laneKey(id, lane));
      if (!run?.stale) continue;
      run.stale = false;
      if (run.high < head) {
        run.clear();
        void this.history(id, lane);
      }
    }
    this.emit({ type: "conversation", conversation });
  }

  private takeTyping(link: Link, handle: number, personHandle: number, on: boolean): void {
    const conversation = link.conversations.get(handle);
    const person = link.persons.get(personHandle);
    if (conversation === undefined || person === undefined) return;
    const key = `${conversation} ${person}`;
    this.typists.get(key)?.();
    this.typists.delete(key);
    if (on) {
      const stop = this.world.after(TYPING_MS_MAX, () => {
        this.typists.delete(key);
        this.emit({ type: "typing", conversation, person, on: false });
      });
      this.typists.set(key, stop);
    }
    this.emit({ type: "typing", conversation, person, on });
  }

  /**
   * What a head promises beyond what is held is missing once the cursor has passed it: the server will
   * not tell it again by itself.
   */
  private catchUp(link: Link): void {
    const current = this.current;
    if (current?.public_head && !this.run(current.id, "public").high) void this.history("mine");
    for (const [id, { public_head, staff_head }] of this.conversations) {
      for (const [lane, head] of [["public", public_head], ["staff", staff_head]] as const) {
        const run = this.runs.get(laneKey(id, lane));
        if (run?.high && run.high < head) this.askGap(link, id, lane, run);
      }
    }
  }

  private fillHoles(link: Link): void {
    for (const [key, run] of this.runs) {
      // An answer that was full may have left a rest.
      const asked = link.gaps.get(run) ?? Infinity;
      if (!run.hasHole && run.high < asked + LIMITS.page_entries_max) continue;
      const [id, lane] = key.split(" ") as [Id, Lane];
      this.askGap(link, id, lane, run);
    }
  }

  private askGap(link: Link, id: Id, lane: Lane, run: LaneRun): void {
    if (link.gaps.get(run) === run.high) return;
    link.gaps.set(run, run.high);
    this.say(link, [{ op: "gap", conversation: link.handles.get(id) ?? id, lane, have: run.high }]);
  }

  private askPage(request: number): void {
    const page = this.pages.get(request);
    if (!page || !this.link?.greeted) return;
    const { conversation, lane } = page;
    const before = this.run(conversation, lane).low;
    this.say(this.link, [{ op: "page", request, conversation, lane, before, limit: PAGE_ENTRIES }]);
  }

  /** Persons by id instead of by handle. */
  private named(link: Link, body: DownEntry["body"]): EntryBody {
    const id = (handle: number) => link.persons.get(handle) ?? "";
    if (body.kind === "opened") return { ...body, visitor: id(body.visitor) };
    if (body.kind === "assigned" || body.kind === "joined") return { ...body, agent: id(body.agent) };
    return body;
  }

  private setPerson(person: Person, changes: Changes): void {
    this.persons.set(person.id, person);
    changes.state = true;
    this.emit({ type: "person", person });
  }

  // ---- what goes out ----------------------------------------------------------------------------

  private async write(body: DraftBody | null, conversation: Target, lane: Lane, file?: Attachment): Promise<void> {
    await this.load();
    await this.change(({ state, outbox }) => {
      if (outbox.length >= OUTBOX_MAX) {
        throw new RefusedError(REFUSAL.TooMany, "There are too many of these.");
      }
      const row: Pending = {
        key: (state.key += 1),
        counter: body ? (state.counter += 1) : 0,
        conversation,
        lane,
        body,
        ...(file && { file }),
        made_ms: this.world.now(),
      };
      this.written.add(row.key);
      return { put: [row] };
    });
    this.typed_ms.delete(conversation);
    this.sendWritten();
  }

  private sendWritten(): void {
    this.emit({ type: "timeline" });
    if (this.status === "elsewhere" && this.hasUnsent) void this.connect();
    this.flush();
    void this.upload();
  }

  /** Sends what was not sent on this connection yet, in the order of the counters. */
  private flush(): void {
    const link = this.link;
    if (!link?.greeted || link.cloned || this.stopHolding || link.device !== this.state.device) return;
    const { settled } = this;
    let frames: Up[] = [];
    let bytes = 0;
    for (const { counter, conversation, lane, body, refused } of this.outbox) {
      if (!counter || !body || refused || link.sent.has(counter)) continue;
      if (counter - settled >= link.unsettled_max) break;
      link.sent.add(counter);
      const draft: Up = { op: "draft", counter, settled, conversation, lane, body };
      const size = encodeUp([draft]).length;
      if (bytes + size > LIMITS.batch_bytes_max) {
        this.say(link, frames);
        [frames, bytes] = [[], 0];
      }
      frames.push(draft);
      bytes += size;
    }
    if (frames.length) this.say(link, frames);
  }

  /** Sends nothing for a while, then what is unanswered again. */
  private hold(ms: number): void {
    this.stopHolding?.();
    this.stopHolding = this.world.after(ms, () => {
      this.stopHolding = null;
      this.flush();
    });
  }

  /** The answer to a draft, with what it means for this connection. */
  private settle(link: Link, { counter, outcome }: { counter: number; outcome: Outcome }): void {
    link.sent.delete(counter);
    const row = this.outbox.find((row) => row.counter === counter);
    if (!row) return;
    if (outcome.kind === "accepted") {
      const conversation = link.conversations.get(outcome.conversation);
      if (conversation === undefined) return;
      const place = placeOf({ conversation, lane: outcome.lane, seq: outcome.seq });
      this.origins.set(place, row.key);
      if (this.run(conversation, outcome.lane).high < outcome.seq) this.echoes.set(place, row);
      return;
    }
    this.claims.delete(row.key);
    if (outcome.code === REFUSAL.DeviceCloned) link.cloned = true;
    else if (actOf(outcome.code) === "login") this.obey(outcome);
    else if (mayComeAgain(outcome.code) && !this.stopHolding) {
      const backoff = BACKOFF_MS_MIN * (1 + this.world.random());
      this.hold(outcome.retry_after_ms || backoff);
    }
  }

  /** Stores what a batch brought, in one step, and then acts on it. */
  private async keep(link: Link, { entries, answers, cursor }: Changes): Promise<void> {
    const { epoch, self } = this.state;
    await this.change(({ state, outbox }) => {
      // The device may have been renewed meanwhile: its counters mean other drafts.
      if (state.device !== link.device) return {};
      state.epoch = epoch;
      state.self = self;
      state.cursor = Math.max(state.cursor, cursor);
      state.conversations = Object.fromEntries(this.conversations);
      state.persons = Object.fromEntries(this.persons);
      const put: Pending[] = [];
      const drop: number[] = [];
      for (const row of outbox) {
        const outcome = row.counter ? answers.get(row.counter) : undefined;
        if (!outcome) continue;
        if (outcome.kind === "accepted" || outcome.code === REFUSAL.AlreadySettled) drop.push(row.key);
        else if (outcome.code === REFUSAL.UploadUnknown && row.file) put.push({ ...row, counter: 0, body: null });
        else if (actOf(outcome.code) === "never") {
          put.push({ ...row, refused: { code: outcome.code, text: outcome.text } });
        }
      }
      return { entries, put, drop };
    });
    for (const row of this.claims.keys()) {
      if (!this.outbox.some(({ key }) => key === row)) this.claims.delete(row);
    }
    if (!this.hasUnsent) this.unsent_ms = UNSENT_MS_MIN;
    this.emit({ type: "timeline" });
    // Every other draft on its way is answered first, or a new device would send it twice.
    if (link.cloned && link === this.link && !this.outbox.some(({ counter }) => link.sent.has(counter))) {
      this.drop();
      await this.renew();
      this.again(0);
      return;
    }
    this.flush();
    void this.upload();
  }

  private say(link: Link, frames: Up[]): void {
    link.transport.send(encodeUp(frames));
  }

  /** Uploads one file after the other; its draft gets its counter when its ticket is there. */
  private async upload(): Promise<void> {
    if (this.uploading || this.stopUploadWait || !this.link?.greeted) return;
    const row = this.outbox.find((row) => !row.counter && row.file && !row.refused);
    if (!row?.file) return;
    const { key, file } = row;
    this.uploading = key;
    try {
      const answer = bodyOf(
        await this.world.request({
          method: "POST",
          url: this.addresses.at("uploads", { name: file.name }),
          headers: {
            ...(await this.authorization()),
            "Content-Type": file.blob.type || "application/octet-stream",
          },
          body: file.blob,
          onprogress: (sent, total) => this.emit({ type: "progress", key, sent, total }),
        }),
      );
      await this.change(({ state, outbox }) => {
        const row = outbox.find((row) => row.key === key);
        if (!row || row.counter) return {};
        row.counter = state.counter += 1;
        row.body = { kind: "file", upload: String(answer.upload), name: file.name, caption: file.caption };
        return { put: [row] };
      });
    } catch (thrown) {
      if (thrown instanceof RefusedError && actOf(thrown.code) === "never") {
        const { code, text } = thrown;
        await this.change(({ outbox }) => {
          const row = outbox.find((row) => row.key === key);
          return row ? { put: [{ ...row, refused: { code, text } }] } : {};
        });
      } else if (thrown instanceof RefusedError && actOf(thrown.code) === "login") this.obey(thrown);
      else {
        this.stopUploadWait = this.world.after(BACKOFF_MS_MIN * 4 * (1 + this.world.random()), () => {
          this.stopUploadWait = null;
          void this.upload();
        });
      }
    } finally {
      this.uploading = 0;
    }
    this.sendWritten();
  }

  /** Marks are slots, not messages: the latest wins, at most one a second, and HELLO says them again. */
  private mark(conversation: Id, { delivered, read }: Mark): void {
    const own = this.ownMark(conversation);
    if (delivered <= own.delivered && read <= own.read) return;
    this.state.marks[conversation] = {
      delivered: Math.max(delivered, own.delivered),
      read: Math.max(read, own.read),
    };
    this.marksDue.add(conversation);
    const wait = Math.max(this.marked_ms + MARK_MS_MIN - this.world.now(), 0);
    this.stopMarking ??= this.world.after(wait, () => this.sayMarks());
  }

  private sayMarks(): void {
    this.stopMarking = null;
    this.marked_ms = this.world.now();
    const { marks } = this.state;
    const frames = [...this.marksDue].map((conversation): Up => ({ op: "mark", conversation, ...(marks[conversation] as Mark) }));
    this.marksDue.clear();
    if (this.link?.greeted && frames.length) this.say(this.link, frames);
    void this.change(({ state }) => void Object.assign(state.marks, marks));
  }

  // ---- what is kept -----------------------------------------------------------------------------

  private async read(): Promise<void> {
    const name = `lodge ${this.config.server_url} ${this.config.app_id ?? ""}`;
    // An agent's customers are not written to the agent's disk.
    this.store ??= this.config.app_id === undefined ? new MemoryStore() : await this.world.store(name);
    if (!(this.store instanceof MemoryStore)) {
      this.tabs = this.world.tabs(name, () => void this.otherTab());
    }
    await this.restore(this.state);
  }

  /** Takes up what is stored; what this page holds besides stays where it is the same person's. */
  private async restore(fresh = this.freshState()): Promise<void> {
    const { state, outbox, entries } = await this.transaction((store) => store.read(fresh));
    if (state.device !== this.held.device) this.forgetPerson(state);
    this.adopt({ state, outbox });
    for (const entry of entries) {
      if (entry.gone) this.gone.set(placeOf(entry), entry);
      else {
        this.run(entry.conversation, entry.lane).take(entry);
        this.echoes.delete(placeOf(entry));
      }
    }
    for (const run of this.runs.values()) run.join();
    // To whom a server speaks, it says itself how things stand.
    if (!this.link?.greeted) {
      for (const conversation of Object.values(state.conversations)) this.conversations.set(conversation.id, conversation);
      for (const person of Object.values(state.persons)) this.persons.set(person.id, person);
      this.held.cursor = Math.max(this.held.cursor, state.cursor);
    }
    this.emit({ type: "timeline" });
  }

  /** Another tab changed the store. */
  private async otherTab(): Promise<void> {
    await this.restore();
    if (this.link && this.link.device !== this.state.device) this.giveWay();
    this.flush();
  }

  private async change(step: Step): Promise<void> {
    this.adopt(await this.transaction((store) => store.change(step)));
    this.tabs.changed();
  }

  /** Where storage fails in the middle, what is in memory goes on there. */
  private async transaction<T>(work: (store: Store) => Promise<T>): Promise<T> {
    try {
      return await work(this.store as Store);
    } catch (thrown) {
      if (thrown instanceof RefusedError || this.store instanceof MemoryStore) throw thrown;
      this.store = MemoryStore.holding({ state: this.state, outbox: this.outbox });
      return work(this.store);
    }
  }

  private adopt({ state, outbox }: Kept): void {
    const { marks } = this.state;
    this.state = state;
    // Marks run ahead of the store by up to a second.
    for (const id of this.marksDue) if (marks[id]) state.marks[id] = marks[id];
    this.outbox = outbox;
  }

  private run(conversation: Id, lane: Lane): LaneRun {
    const key = laneKey(conversation, lane);
    let run = this.runs.get(key);
    if (!run) this.runs.set(key, (run = new LaneRun()));
    return run;
  }

  private idOf(to: Target): Id | undefined {
    return to === "mine" ? this.current?.id : to || undefined;
  }

  private keyOf(entry: Entry): string {
    const place = placeOf(entry);
    const origin = this.origins.get(place);
    return origin === undefined ? place : `draft ${origin}`;
  }
}

const laneKey = (conversation: Id, lane: Lane) => `${conversation} ${lane}`;
const placeOf = (at: { conversation: Id; lane: Lane; seq: number }) => `${laneKey(at.conversation, at.lane)} ${at.seq}`;

/** A draft that was refused with one of these keeps its counter and is sent again. */
const mayComeAgain = (code: number) => actOf(code) === "retry" || code === REFUSAL.TooManyUnsettled;

/** Numbers what is unanswered from 1 on, in its order, for a new device. */
function renumber({ state, outbox }: Kept, device: Id): Pending[] {
  Object.assign(state, { device, generation: 0, counter: 0 });
  const rows = outbox.filter((row) => row.counter && !row.refused);
  for (const row of rows) row.counter = state.counter += 1;
  return rows;
}

function sameBody(draft: DraftBody | null, entry: EntryBody): boolean {
  if (draft?.kind === "text" && entry.kind === "text") return (draft as { text: string }).text === (entry as { text: string }).text;
  if (draft?.kind === "file" && entry.kind === "file") return (draft as { name: string }).name === (entry as { name: string }).name;
  return false;
}

/** A name that the language can carry; its end says what kind of file it is, so the middle goes. */
function shortened(name: string): string {
  const size = (text: string) => new TextEncoder().encode(text).length;
  if (size(name) <= LIMITS.name_bytes_max) return name;
  const letters = [...name];
  while (size(letters.join("")) > LIMITS.name_bytes_max - 3) letters.splice(letters.length >> 1, 1);
  letters.splice(letters.length >> 1, 0, "…");
  return letters.join("");
}
