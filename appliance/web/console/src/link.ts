// The console's end of one session: a WebSocket that speaks the readable twin, what waits to be sent, and the
// way back after a bad network.
//
// Invariants: drafts leave in the order of their counters; one is forgotten only when its SETTLED came; handles
// live as long as their connection and never leave this file (the rest of the console knows ids); "live" means
// that HELLO_OK came, never that a socket opened.
import {
  REFUSAL, SUBPROTOCOL_JSON, VERSION,
  type Down, type DraftBody, type EntryBody, type Lane, type PersonKind, type Up,
} from "../../../../proto/sdk/typescript/src/wire";

export type { DraftBody, Lane, PersonKind };

export type LinkState =
  | { is: "connecting" }
  | { is: "live" }
  | { is: "waiting"; until_ms: number }
  | { is: "ended" };

export interface PersonSeen { id: string; kind: PersonKind; name: string; online: boolean }
export interface MarkSeen { person: string; delivered: number; read: number }
export interface ConversationSeen {
  id: string; site: string; visitor: string | null; assignee: string | null; state: "open" | "closed";
  public_head: number; public_time_ms: number; marks: MarkSeen[];
}
/** An entry's body with persons by id. */
export type Body =
  | { kind: "text"; text: string }
  | { kind: "file"; name: string; mime: string; size: number; width: number; height: number; caption: string }
  | { kind: "closed" } | { kind: "reopened" }
  | { kind: "opened"; visitor: string | null; page: string }
  | { kind: "assigned"; agent: string | null; why: string }
  | { kind: "joined"; agent: string | null }
  | { kind: "unknown" };
export interface EntrySeen {
  conversation: string; lane: Lane; seq: number; position: number; time_ms: number; author: string | null; body: Body;
}
export type Settled =
  | { accepted: true; conversation: string; lane: Lane; seq: number; position: number; time_ms: number }
  | { accepted: false; code: number; text: string };

export interface Heard {
  state(state: LinkState): void;
  ready(self: string, limits: { text_bytes_max: number; upload_bytes_max: number; clock_ahead_ms: number }): void;
  person(person: PersonSeen): void;
  conversation(conversation: ConversationSeen): void;
  entry(entry: EntrySeen): void;
  settled(draft: string, outcome: Settled): void;
  typing(conversation: string, person: string, on: boolean): void;
  mark(conversation: string, mark: MarkSeen): void;
  synced(): void;
  resync(): void;
}

interface Waiting { key: string; counter: number; conversation: string; lane: Lane; body: DraftBody; sent: boolean }
interface Asked { conversation: string; lane: Lane; before: number; limit: number; done: (page: { first: number; more: boolean }) => void }

const FIRST_DELAY_MS = 400;
const DELAY_MS_MAX = 15_000;
const HELLO_MS_MAX = 10_000;
const NO_EPOCH = "AAAAAAAAAAA";

export class Link {
  #heard: Heard;
  #socket: WebSocket | null = null;
  #live = false;
  #wanted = false;
  #failures = 0;
  #again: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #heartbeat_ms = 30_000;

  #device = randomId();
  #generation = 0;
  #epoch = NO_EPOCH;
  #cursor = 0;
  #counter = 0;
  #outbox: Waiting[] = [];

  #conversations = new Map<number, string>();
  #people = new Map<number, string>();
  #request = 0;
  #pages = new Map<number, Asked>();
  #marks = new Map<string, { delivered: number; read: number }>();

  constructor(heard: Heard) {
    this.#heard = heard;
  }

  start(): void {
    this.#wanted = true;
    addEventListener("online", this.#now);
    document.addEventListener("visibilitychange", this.#now);
    this.#connect();
  }

  stop(): void {
    this.#wanted = false;
    removeEventListener("online", this.#now);
    document.removeEventListener("visibilitychange", this.#now);
    clearTimeout(this.#again);
    if (this.#live) this.#say({ op: "bye", reason: 2 });
    this.#drop();
  }

  /** Takes a draft and answers with its key; `settled` comes later, over as many connections as it takes. */
  send(conversation: string, lane: Lane, body: DraftBody): string {
    const draft: Waiting = { key: randomId(), counter: ++this.#counter, conversation, lane, body, sent: false };
    this.#outbox.push(draft);
    if (this.#live) this.#post(draft);
    return draft.key;
  }

  get waiting(): number {
    return this.#outbox.length;
  }

  typing(conversation: string, on: boolean): void {
    if (this.#live) this.#say({ op: "typing", conversation, on });
  }

  mark(conversation: string, delivered: number, read: number): void {
    this.#marks.set(conversation, { delivered, read });
    if (this.#live) this.#say({ op: "mark", conversation, delivered, read });
  }

  page(conversation: string, lane: Lane, before: number, limit: number): Promise<{ first: number; more: boolean }> {
    return new Promise((done) => {
      const request = ++this.#request;
      const asked: Asked = { conversation, lane, before, limit, done };
      this.#pages.set(request, asked);
      if (this.#live) this.#turn(request, asked);
    });
  }

  gap(conversation: string, lane: Lane, have: number): void {
    if (this.#live) this.#say({ op: "gap", conversation, lane, have });
  }

  /** Tries at once instead of waiting the delay out. */
  #now = (): void => {
    if (!this.#wanted || document.visibilityState === "hidden") return;
    if (this.#live) this.#say({ op: "ping", nonce: 1 });
    else if (!this.#socket) this.#connect();
  };

  #connect(): void {
    clearTimeout(this.#again);
    this.#heard.state({ is: "connecting" });
    const secure = location.protocol === "https:";
    const socket = new WebSocket(`${secure ? "wss" : "ws"}://${location.host}/api/v1/session`, SUBPROTOCOL_JSON);
    this.#socket = socket;
    this.#listen(HELLO_MS_MAX);
    socket.onopen = () => this.#hello();
    socket.onmessage = (event) => {
      this.#listen(this.#heartbeat_ms * 2);
      for (const frame of JSON.parse(String(event.data)) as Down[]) {
        if (this.#socket !== socket) return;
        this.#take(frame);
      }
    };
    socket.onclose = (event) => {
      if (this.#socket === socket) this.#lost(event.code === 4401);
    };
  }

  #hello(): void {
    const settled = this.#outbox[0]?.counter ?? this.#counter + 1;
    this.#say({
      op: "hello", version: VERSION, caps: 0, device: this.#device, generation: ++this.#generation,
      epoch: this.#epoch, cursor: this.#cursor, last_counter: this.#counter, settled, token: "",
      marks: [...this.#marks].slice(-256).map(([conversation, mark]) => ({ conversation, ...mark })),
    });
  }

  #take(frame: Down): void {
    switch (frame.op) {
      case "hello_ok": return this.#ready(frame);
      case "refused": return this.#refused(frame.code, frame.retry_after_ms);
      case "ping": return this.#say({ op: "pong", nonce: frame.nonce });
      case "goaway": {
        const socket = this.#socket;
        setTimeout(() => { if (this.#socket === socket) this.#lost(false); }, frame.delay_ms);
        return;
      }
      case "person": {
        this.#people.set(frame.handle, frame.id);
        return this.#heard.person(frame);
      }
      case "presence": {
        const id = this.#person(frame.person);
        if (id) this.#heard.person({ id, kind: "visitor", name: "", online: frame.online });
        return;
      }
      case "conversation": {
        this.#conversations.set(frame.handle, frame.id);
        return this.#heard.conversation({
          ...frame,
          visitor: this.#person(frame.visitor),
          assignee: this.#person(frame.assignee),
          marks: frame.marks.flatMap((mark) => this.#mark(mark)),
        });
      }
      case "entry": {
        const conversation = this.#conversations.get(frame.conversation);
        if (conversation === undefined) return;
        return this.#heard.entry({
          ...frame, conversation, author: this.#person(frame.author), body: this.#body(frame.body),
        });
      }
      case "settled": return this.#settled(frame.counter, frame.outcome);
      case "typing": {
        const conversation = this.#conversations.get(frame.conversation);
        const person = this.#person(frame.person);
        if (conversation !== undefined && person) this.#heard.typing(conversation, person, frame.on);
        return;
      }
      case "mark": {
        const conversation = this.#conversations.get(frame.conversation);
        for (const mark of this.#mark(frame)) if (conversation !== undefined) this.#heard.mark(conversation, mark);
        return;
      }
      case "page_end": {
        const asked = this.#pages.get(frame.request);
        this.#pages.delete(frame.request);
        return asked?.done({ first: frame.first, more: frame.more });
      }
      case "synced": {
        this.#cursor = frame.cursor;
        return this.#heard.synced();
      }
      case "resync": return this.#heard.resync();
    }
  }

  #ready(ok: Extract<Down, { op: "hello_ok" }>): void {
    const self = this.#person(ok.person);
    if (self === null) return;
    if (this.#epoch !== NO_EPOCH && this.#epoch !== ok.epoch) this.#anew();
    this.#epoch = ok.epoch;
    this.#heartbeat_ms = ok.heartbeat_ms;
    this.#live = true;
    this.#failures = 0;
    this.#listen(this.#heartbeat_ms * 2);
    this.#heard.ready(self, {
      text_bytes_max: ok.text_max, upload_bytes_max: ok.upload_max, clock_ahead_ms: ok.now_ms - Date.now(),
    });
    this.#heard.state({ is: "live" });
    for (const draft of this.#outbox) this.#post(draft);
    for (const [request, asked] of this.#pages) this.#turn(request, asked);
  }

  #settled(counter: number, outcome: Extract<Down, { op: "settled" }>["outcome"]): void {
    const draft = this.#outbox.find((one) => one.counter === counter);
    if (!draft) return;
    if (outcome.kind === "accepted") {
      this.#forget(draft);
      const { conversation: _, kind: __, ...rest } = outcome;
      return this.#heard.settled(draft.key, { accepted: true, conversation: draft.conversation, ...rest });
    }
    if (outcome.code < 2000) {
      // It keeps its number and goes again, and with it all that came behind.
      const socket = this.#socket;
      const again = () => {
        if (this.#socket !== socket || !this.#live) return;
        for (const one of this.#outbox) if (one.counter >= counter) this.#post(one);
      };
      setTimeout(again, Math.max(outcome.retry_after_ms, 200));
      return;
    }
    if (outcome.code < 3000) {
      this.#anew();
      return this.#lost(false);
    }
    if (outcome.code < 4000) return this.#lost(true);
    this.#forget(draft);
    this.#heard.settled(draft.key, { accepted: false, code: outcome.code, text: outcome.text });
  }

  #refused(code: number, retry_after_ms: number): void {
    if (code >= 3000 && code < 4000) return this.#lost(true);
    if (code >= 2000 && code < 3000) this.#anew();
    this.#lost(false, retry_after_ms);
  }

  /** A new device: everything that waits gets a new number. */
  #anew(): void {
    this.#device = randomId();
    this.#generation = 0;
    this.#cursor = 0;
    this.#epoch = NO_EPOCH;
    this.#counter = 0;
    for (const draft of this.#outbox) draft.counter = ++this.#counter;
  }

  #lost(ended: boolean, delay_ms_min = 0): void {
    this.#drop();
    if (ended) this.#wanted = false;
    if (!this.#wanted) return this.#heard.state({ is: "ended" });
    const delay = Math.max(delay_ms_min, Math.min(DELAY_MS_MAX, FIRST_DELAY_MS * 2 ** this.#failures++) * (0.5 + Math.random()));
    this.#heard.state({ is: "waiting", until_ms: Date.now() + delay });
    this.#again = setTimeout(() => this.#connect(), delay);
  }

  #drop(): void {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    this.#live = false;
    this.#conversations.clear();
    this.#people.clear();
    for (const draft of this.#outbox) draft.sent = false;
    socket?.close();
  }

  #listen(ms: number): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(false), ms);
  }

  #post(draft: Waiting): void {
    draft.sent = true;
    const settled = this.#outbox[0]?.counter ?? this.#counter + 1;
    const { counter, conversation, lane, body } = draft;
    this.#say({ op: "draft", counter, settled, conversation, lane, body });
  }

  #turn(request: number, { conversation, lane, before, limit }: Asked): void {
    this.#say({ op: "page", request, conversation, lane, before, limit });
  }

  #forget(draft: Waiting): void {
    this.#outbox = this.#outbox.filter((one) => one !== draft);
  }

  #person(handle: number): string | null {
    return this.#people.get(handle) ?? null;
  }

  #mark(mark: { person: number; delivered: number; read: number }): MarkSeen[] {
    const person = this.#person(mark.person);
    return person ? [{ person, delivered: mark.delivered, read: mark.read }] : [];
  }

  #body(body: EntryBody): Body {
    switch (body.kind) {
      case "opened": return { ...body, visitor: this.#person(body.visitor) };
      case "assigned": return { ...body, agent: this.#person(body.agent) };
      case "joined": return { ...body, agent: this.#person(body.agent) };
      case "text": case "file": case "closed": case "reopened": return body;
      default: return { kind: "unknown" };
    }
  }

  #say(frame: Up): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify([frame]));
  }
}

function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Whether a refusal means that the same words would be refused again. */
export function final(code: number): boolean {
  return code >= REFUSAL.Malformed;
}
