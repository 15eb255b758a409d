/** A world without time of its own: seeded chance, timers that a test turns, and a link that lies. */
import { Desk, Peer } from "./desk.js";
import { MemoryStore, type Kept, type State, type Step, type Store } from "../src/store.js";
import type { Answer, Request, Transport, TransportEvents, World } from "../src/world.js";

export class Sim {
  now_ms = 1_700_000_000_000;
  private timers: { at: number; order: number; then: () => void }[] = [];
  private order = 0;
  private seed: number;
  readonly desk = new Desk(() => this.now_ms);
  /** How likely a batch is to be the last of its connection. */
  drop = 0;
  online = true;
  /** Turns of the real event loop before each timer: a real database needs more than one. */
  rounds = 1;
  requests: Request[] = [];
  /** How long a transaction of a shared store, and the word of it to another tab, may take. */
  store_ms_max = 0;
  tell_ms_max = 0;
  private readonly channels = new Map<string, Set<() => void>>();
  private readonly devices = new Map<string, string>();

  constructor(seed: number) {
    this.seed = seed >>> 0 || 1;
  }

  /** xorshift32: the same seed, the same story. */
  random(): number {
    this.seed ^= this.seed << 13;
    this.seed ^= this.seed >>> 17;
    this.seed ^= this.seed << 5;
    this.seed >>>= 0;
    return this.seed / 2 ** 32;
  }

  after(ms: number, then: () => void): () => void {
    const timer = { at: this.now_ms + Math.ceil(Math.max(ms, 0)), order: (this.order += 1), then };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  /** Turns the clock, one timer after the other, until `done` or until `ms` have passed. */
  async run(ms: number, done: () => boolean = () => false): Promise<void> {
    const end = this.now_ms + ms;
    for (;;) {
      for (let round = 0; round < this.rounds; round += 1) await settle();
      if (done()) return;
      this.timers.sort((a, b) => a.at - b.at || a.order - b.order);
      const next = this.timers[0];
      if (!next || next.at > end) break;
      this.timers.shift();
      this.now_ms = Math.max(this.now_ms, next.at);
      next.then();
    }
    this.now_ms = Math.ceil(end);
  }

  /** One browser profile. `sleep` is the page left, `wake` the person coming back. */
  world(who: string, store: Store = new MemoryStore()): World & { wake(): void; sleep(): void } {
    let wake = () => {};
    let sleep = () => {};
    return {
      now: () => this.now_ms,
      random: () => this.random(),
      bytes: (length) => Uint8Array.from({ length }, () => Math.floor(this.random() * 256)),
      after: (ms, then) => this.after(ms, then),
      open: (_url, events) => this.open(who, events),
      request: (request) => this.request(who, request),
      fetchBlob: () => Promise.reject(new Error("not here")),
      store: () => Promise.resolve(store),
      onwake(then) {
        wake = then;
        return () => {};
      },
      onsleep(then) {
        sleep = then;
        return () => {};
      },
      tabs: (name, onchange) => this.tabs(`${who} ${name}`, onchange),
      wake: () => wake(),
      sleep: () => sleep(),
    };
  }

  /** The word goes to the other tabs only, and says nothing but that there is something to read. */
  private tabs(name: string, onchange: () => void): { changed(): void; close(): void } {
    const channel = this.channels.get(name) ?? new Set();
    this.channels.set(name, channel.add(onchange));
    return {
      changed: () => {
        for (const other of channel) {
          if (other !== onchange) this.after(this.random() * this.tell_ms_max, () => channel.has(other) && other());
        }
      },
      close: () => void channel.delete(onchange),
    };
  }

  private async request(who: string, request: Request): Promise<Answer> {
    this.requests.push(request);
    await new Promise<void>((resolve) => this.after(20, resolve));
    if (!this.online) throw new Error("no network");
    if (request.url.includes("/visitor/token")) {
      const { device } = JSON.parse(String(request.body)) as { device: string };
      this.devices.set(device, who);
      const body = { token: `${who} ${device}`, visitor: who, name: "", expires_at_ms: this.now_ms + 3_600_000, vouched: false };
      return { status: 200, body };
    }
    const upload = `ticket ${this.requests.length}`;
    return { status: 200, body: { upload, mime: "text/plain", size: 1, width: 0, height: 0 } };
  }

  private open(who: string, events: TransportEvents): Transport {
    let alive = true;
    // A stream that lost a byte delivers nothing after it: it looks alive and is not.
    let swallowed = false;
    let peer: Peer | undefined;
    // Each direction delivers in order, each batch after its own delay; the last one may never arrive.
    const lane = (deliver: (batch: Uint8Array) => void) => {
      let free_ms = this.now_ms;
      return (batch: Uint8Array) => {
        if (!alive) return;
        const lost = this.random() < this.drop;
        free_ms = Math.max(free_ms, this.now_ms + 5 + this.random() * 80);
        this.after(free_ms - this.now_ms, () => {
          if (!alive) return;
          swallowed ||= !this.online;
          if (lost) end();
          else if (!swallowed) deliver(batch);
        });
      };
    };
    const end = () => {
      if (!alive) return;
      alive = false;
      peer?.end();
      events.onclose();
    };
    const down = lane((batch) => events.onbatch(batch));
    const up = lane((batch) => peer?.receive(batch));
    this.after(10, () => {
      if (!alive) return;
      if (!this.online) return end();
      const person = this.desk.persons.get(who);
      if (!person) return end();
      // The server's close travels behind what it sent.
      peer = new Peer(this.desk, person, down, () => this.after(100, end));
      events.onopen();
    });
    return { send: up, close: end };
  }
}

/**
 * What the tabs of one browser share. As in a browser, one transaction follows the other, a tab works on
 * copies, and it hears of its transactions in their order, but late.
 */
export class SharedStore {
  private readonly rows = new MemoryStore();
  private free_ms = 0;

  constructor(private readonly sim: Sim) {}

  /** The same store, as one tab sees it. */
  tab(): Store {
    let told_ms = 0;
    const turn = <T>(work: () => Promise<T>) =>
      new Promise<T>((resolve, reject) => {
        const { sim } = this;
        const some = () => sim.random() * sim.store_ms_max;
        this.free_ms = Math.max(this.free_ms, sim.now_ms) + some();
        told_ms = Math.max(told_ms, this.free_ms + some());
        const tell_ms = told_ms;
        sim.after(this.free_ms - sim.now_ms, () => {
          const done = work();
          sim.after(tell_ms - sim.now_ms, () => done.then((kept) => resolve(structuredClone(kept)), reject));
        });
      });
    return {
      read: (fresh: State) => turn(() => this.rows.read(structuredClone(fresh))),
      change: (step: Step) => turn(() => this.rows.change((kept) => this.copied(step, kept))),
      forget: () => turn(() => this.rows.forget()),
    };
  }

  private copied(step: Step, kept: Kept): ReturnType<Step> {
    const copy = structuredClone(kept);
    const writes = structuredClone(step(copy));
    Object.assign(kept.state, structuredClone(copy.state));
    return writes;
  }
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));
