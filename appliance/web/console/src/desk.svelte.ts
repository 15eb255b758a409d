// What the console shows of the desk: people, conversations, lists. The session's client holds the entries, the
// outbox and the way back after a bad network; the JSON API holds the lists. Both may say the same thing twice.
//
// Invariants: a conversation exists once, whoever named it first; every list is a view of the same conversations,
// so nothing can be in two states; what the agent wrote is on the screen until its entry takes its place, or until
// they discard it; nothing here asks for more than it can hold.
import { SvelteMap } from "svelte/reactivity";
import { Client, RefusedError, browser, type Conversation, type Entry, type Pending, type Status } from "../../../../proto/sdk/typescript/src/index";
import { REFUSAL_TEXT_ZH, type PersonKind } from "../../../../proto/sdk/typescript/src/wire";
import { ApiRefusal, api, type ConversationRow, type ListName, type Self, type SiteName } from "./api";
import { forget, keep, kept, place } from "./place.svelte";

export type { Entry, Pending };

const TALKS_MAX = 2_000;
/** Files that may lie in a composer at once. */
export const FILES_MAX = 10;
/** Pictures of our own that are shown from memory until the page is left. */
const SHOTS_MAX = 64;
/** A connection that is refused at the door looks like a bad network; the API knows which of the two it is. */
const DOUBT_EVERY_MS = 10_000;
/** Conversations that this agent has no part in are told live while they are looked into; the lists are asked again. */
const LISTS_EVERY_MS = 5_000;

export class Person {
  name = $state("");
  online = $state(false);
  constructor(readonly id: string, public kind: PersonKind) {}
}

export interface Last {
  seq: number; time_ms: number; author: PersonKind; author_id: string; kind: string | number; preview: string;
}

/** A picture that the agent has in hand: how it looks, and how large it is. */
export class Shot {
  width = $state(0);
  height = $state(0);
  readonly url: string | null;

  constructor(readonly file: Blob) {
    this.url = /^image\/(png|jpeg|gif|webp)$/.test(file.type) ? URL.createObjectURL(file) : null;
    if (this.url) void this.#measure(this.url);
  }

  drop(): void {
    if (this.url) URL.revokeObjectURL(this.url);
  }

  async #measure(url: string): Promise<void> {
    const image = new Image();
    image.src = url;
    // What cannot be decoded travels as a file all the same.
    await image.decode().catch(() => {});
    this.width = image.naturalWidth;
    this.height = image.naturalHeight;
  }
}

/** An entry or something on its way, under a name that outlives the change from one to the other. */
export interface Held { key: string; entry: Entry }
export interface Leaving { key: string; pending: Pending; accepted: boolean }

export class Talk {
  site = $state("");
  visitor = $state() as Person;
  assignee = $state<Person | null>(null);
  open = $state(true);
  head = $state(0);
  last = $state.raw<Last | null>(null);
  opened_ms = $state(0);
  /** When the newest public entry came. */
  time_ms = $state(0);
  unread = $state(0);
  /** Whether `unread` counts messages. A list only says how many entries are new, and not all of them are messages. */
  counted = $state(true);
  vouched = $state<boolean | null>(null);
  device = $state("");
  page = $state("");
  /** Both lanes by Position; filled while the conversation is looked at. */
  held = $state.raw<Held[]>([]);
  leaving = $state.raw<Leaving[]>([]);
  loaded = $state<"no" | "loading" | "yes">("no");
  more = $state(false);
  /** What will go with the next message. */
  tray = $state.raw<Shot[]>([]);
  typing = new SvelteMap<string, true>();
  theirs = $state.raw({ delivered: 0, read: 0 });
  /** How far it was read when it was opened, if something new stood behind that; a line is drawn there. 0: none. */
  seam = $state(0);
  read_to = 0;

  constructor(readonly id: string, site: string, visitor: Person) {
    this.site = site;
    this.visitor = visitor;
  }

  get draft(): string {
    return kept(`draft.${this.id}`) ?? "";
  }
  set draft(text: string) {
    keep(`draft.${this.id}`, text === "" ? null : text);
  }
}

class Desk {
  self = $state.raw<Self | null>(null);
  sites = $state.raw<SiteName[]>([]);
  status = $state<Status>("idle");
  /** Why the server will not have us, in its words. */
  refusal = $state("");
  /** Messages that wait for their answer. */
  outbox = $state(0);
  ended = $state(false);
  people = new SvelteMap<string, Person>();
  talks = new SvelteMap<string, Talk>();
  list = $state<ListName>("mine");
  sought = $state("");
  shown = $state.raw<Talk | null>(null);
  /** Where each list goes on; absent = not asked yet, null = at its end. */
  next = new SvelteMap<ListName, string | null>();
  loading = $state(false);
  /** How far each upload has got, by the outbox's key. */
  progress = new SvelteMap<number, number>();

  #client: Client | null = null;
  #shots = new Map<Blob, Shot>();
  #shot_of = new Map<string, Shot>();
  #due = false;
  #doubted_ms = 0;
  #asking: ReturnType<typeof setInterval> | undefined;

  begin(self: Self, sites: SiteName[]): void {
    this.self = self;
    this.sites = sites;
    this.ended = false;
    this.person(self.id, "agent", self.name).online = true;
    const client = new Client({ server_url: location.origin }, browser());
    this.#client = client;
    client.on((event) => {
      switch (event.type) {
        case "status": return this.#status(event.status);
        case "timeline": return this.#soon();
        case "entries": return this.#entries(event.entries);
        case "conversation": return this.#conversation(event.conversation);
        case "person": {
          const { id, kind, name, online } = event.person;
          this.person(id, kind, name).online = online;
          return;
        }
        case "typing": {
          const talk = this.talks.get(event.conversation);
          if (event.on) talk?.typing.set(event.person, true);
          else talk?.typing.delete(event.person);
          return;
        }
        case "progress": return void this.progress.set(event.key, event.sent / Math.max(1, event.total));
      }
    });
    void client.open();
    void this.refresh();
    this.#asking = setInterval(() => {
      if (this.status === "connected" && document.visibilityState === "visible") void this.refresh();
    }, LISTS_EVERY_MS);
  }

  end(): void {
    clearInterval(this.#asking);
    this.#client?.close();
    this.#client = null;
    this.self = null;
    this.shown = null;
    this.outbox = 0;
    this.status = "idle";
    for (const held of [this.talks, this.people, this.next, this.progress]) held.clear();
    for (const shot of this.#shots.values()) shot.drop();
    this.#shots.clear();
    this.#shot_of.clear();
  }

  /** Nothing of this agent's work stays on the device. */
  leave(): void {
    this.end();
    forget("draft.");
    forget("read.");
  }

  isSelf(id: string | null | undefined): boolean {
    return id !== null && id !== undefined && id !== "" && (id === this.self?.id || id === this.#client?.self);
  }

  siteName(app: string): string {
    return this.sites.find((site) => site.app === app)?.name ?? app;
  }

  in(list: ListName, talk: Talk): boolean {
    switch (list) {
      case "mine": return talk.open && this.isSelf(talk.assignee?.id);
      case "unassigned": return talk.open && talk.assignee === null;
      case "open": return talk.open;
      case "closed": return !talk.open;
    }
  }

  /** One list, newest first. */
  view(list: ListName): Talk[] {
    const talks = [...this.talks.values()].filter((talk) => talk.site !== "" && this.in(list, talk));
    return talks.sort((a, b) => b.time_ms - a.time_ms);
  }

  /** Conversations in which something new waits for this agent: theirs, and nobody's. */
  get unread(): number {
    let sum = 0;
    for (const talk of this.talks.values()) {
      if (talk.open && talk.unread > 0 && (talk.assignee === null || this.isSelf(talk.assignee.id))) sum += 1;
    }
    return sum;
  }

  /** Fetches the first page of what is looked at and of what is counted. */
  async refresh(): Promise<void> {
    this.loading = !this.next.has(this.list);
    const lists = new Set<ListName>(["mine", "unassigned", this.list]);
    await Promise.allSettled([...lists].map((list) => this.#load(list, null)));
    this.loading = false;
  }

  async choose(list: ListName): Promise<void> {
    this.list = list;
    if (!this.next.has(list)) await this.#load(list, null).catch(() => {});
  }

  async further(): Promise<void> {
    const next = this.next.get(this.list);
    if (!next || this.loading) return;
    this.loading = true;
    await this.#load(this.list, next).catch(() => {});
    this.loading = false;
  }

  show(id: string | null): void {
    if (this.shown?.id === id) return;
    if (this.shown) this.shown.seam = 0;
    const talk = id === null ? null : (this.talks.get(id) ?? this.#talk(id, "", null));
    this.shown = talk;
    if (!talk) return;
    talk.seam = talk.unread > 0 ? talk.read_to : 0;
    this.#sync();
    if (talk.loaded === "no") void this.#open(talk);
    else this.#lookOn();
  }

  /** Asks for what is newer in what is shown. The server goes on telling of it, also without a part in it. */
  #lookOn(): void {
    if (this.shown?.loaded === "yes") this.#client?.newer(this.shown.id);
  }

  /** Asks for the page above what is held. */
  async older(talk: Talk): Promise<void> {
    if (talk.loaded !== "yes" || !talk.more || !this.#client) return;
    talk.loaded = "loading";
    await this.#page(talk);
    talk.loaded = "yes";
  }

  /** The newest of it is on a screen that somebody looks at. */
  seen(talk: Talk): void {
    talk.unread = 0;
    if (talk.read_to >= talk.head) return;
    talk.read_to = talk.head;
    keep(`read.${talk.id}`, String(talk.head));
    this.#client?.read_up_to(talk.head, talk.id);
  }

  /** Says it, and sends what lies in the tray; answers with the reason when it cannot even be kept. */
  async say(talk: Talk, text: string): Promise<string> {
    const client = this.#client;
    const words = text.trim();
    const tray = talk.tray;
    const caption = tray.length === 1 ? words : "";
    if (!client) return "";
    talk.tray = [];
    talk.draft = "";
    client.typing(false, talk.id);
    try {
      if (words && !caption) await client.send(words, talk.id);
      for (const shot of tray) {
        await client.sendFile(shot.file, shot.file instanceof File ? shot.file.name : "file", talk.id, "public", caption);
      }
      return "";
    } catch (refusal) {
      talk.draft = text;
      return refusal instanceof RefusedError ? this.reason(refusal) : place.words.unreachable;
    }
  }

  async finish(talk: Talk): Promise<void> {
    await this.#client?.endConversation(talk.id);
  }

  attach(talk: Talk, files: Iterable<File>): { large: File | null; many: boolean } {
    let large: File | null = null;
    let many = false;
    const max = this.#client?.upload_max ?? 0;
    for (const file of files) {
      if (max > 0 && file.size > max) large = file;
      else if (talk.tray.length >= FILES_MAX) many = true;
      else talk.tray = [...talk.tray, this.shot(file)];
    }
    return { large, many };
  }

  get upload_bytes_max(): number {
    return this.#client?.upload_max ?? 0;
  }

  detach(talk: Talk, shot: Shot): void {
    talk.tray = talk.tray.filter((one) => one !== shot);
    this.#shots.delete(shot.file);
    shot.drop();
  }

  retry(key: number): void {
    void this.#client?.retry(key);
  }

  discard(key: number): void {
    void this.#client?.discard(key);
  }

  typing(talk: Talk, on: boolean): void {
    this.#client?.typing(on, talk.id);
  }

  person(id: string, kind: PersonKind, name: string): Person {
    let person = this.people.get(id);
    if (!person) {
      person = new Person(id, kind);
      this.people.set(id, person);
    }
    if (name) person.name = name;
    return person;
  }

  /** How a file in hand looks; the same file is measured once. */
  shot(file: Blob): Shot {
    let shot = this.#shots.get(file);
    if (!shot) {
      shot = new Shot(file);
      this.#shots.set(file, shot);
      if (this.#shots.size > SHOTS_MAX) {
        const [oldest] = this.#shots.values();
        if (oldest) {
          this.#shots.delete(oldest.file);
          oldest.drop();
          for (const [key, one] of this.#shot_of) if (one === oldest) this.#shot_of.delete(key);
        }
      }
    }
    return shot;
  }

  /** Our own picture under the name of its draft or entry, as long as it is in memory. */
  shotOf(key: string): Shot | undefined {
    return this.#shot_of.get(key);
  }

  reason({ code, text }: { code: number; text: string }): string {
    return place.language === "zh" ? (REFUSAL_TEXT_ZH[code] ?? text) : text;
  }

  async #load(list: ListName, before: string | null): Promise<void> {
    const page = await api.conversations(list, before);
    for (const row of page.conversations) this.#row(row);
    this.next.set(list, page.next);
  }

  async #open(talk: Talk): Promise<void> {
    talk.loaded = "loading";
    await this.#page(talk);
    talk.loaded = "yes";
  }

  async #page(talk: Talk): Promise<void> {
    const client = this.#client;
    if (!client) return;
    await Promise.all([client.history(talk.id, "public"), client.history(talk.id, "staff")]);
    this.#sync();
  }

  #status(status: Status): void {
    const before = this.status;
    this.status = status;
    this.refusal = this.#client?.refusal ? this.reason(this.#client.refusal) : "";
    if (status === "login") this.ended = true;
    if (status === "connected") {
      this.person(this.#client?.self ?? "", "agent", this.self?.name ?? "");
      if (before !== "idle") void this.refresh();
      this.#lookOn();
    }
    if (status === "waiting" && Date.now() - this.#doubted_ms > DOUBT_EVERY_MS) {
      this.#doubted_ms = Date.now();
      void api.me().catch((refusal: unknown) => {
        if (refusal instanceof ApiRefusal && refusal.status === 401) this.ended = true;
      });
    }
  }

  /** One look at the timeline for all that one batch brought. */
  #soon(): void {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      this.#sync();
    });
  }

  #sync(): void {
    const client = this.#client;
    if (!client) return;
    this.outbox = client.outbox.filter((row) => !row.refused).length;
    const talk = this.shown;
    if (!talk) return;
    const held: Held[] = [];
    const leaving: Leaving[] = [];
    for (const lane of ["public", "staff"] as const) {
      for (const { key, entry, pending, ...rest } of client.timeline(talk.id, lane)) {
        if (entry) held.push({ key, entry });
        else if (pending.body?.kind !== "close" || pending.refused) leaving.push({ key, pending, accepted: "accepted" in rest && rest.accepted === true });
        if (pending?.file) this.#shot_of.set(key, this.shot(pending.file.blob));
      }
    }
    held.sort((a, b) => a.entry.position - b.entry.position);
    const first = held.find(({ entry }) => entry.lane === "public")?.entry.seq;
    talk.more = first === undefined ? talk.head > 0 && talk.loaded !== "yes" : first > 1;
    talk.held = held;
    talk.leaving = leaving;
  }

  #talk(id: string, site: string, visitor: Person | null): Talk {
    let talk = this.talks.get(id);
    if (!talk) {
      talk = new Talk(id, site, visitor ?? new Person("", "visitor"));
      talk.read_to = Number(kept(`read.${id}`)) || 0;
      this.talks.set(id, talk);
      if (this.talks.size > TALKS_MAX) this.#thin();
    }
    if (site) talk.site = site;
    if (visitor) talk.visitor = visitor;
    return talk;
  }

  #row(row: ConversationRow): void {
    const visitor = this.person(row.visitor.id, "visitor", row.visitor.name);
    visitor.online = row.visitor.online;
    const talk = this.#talk(row.id, row.site, visitor);
    talk.opened_ms = row.opened_ms;
    if (row.visitor.vouched !== undefined) talk.vouched = row.visitor.vouched;
    if (row.visitor.device) talk.device = row.visitor.device;
    // A row may be older than what the session said meanwhile.
    if (row.public_head < talk.head) return;
    const untold = row.public_head > talk.head;
    talk.head = row.public_head;
    talk.assignee = row.assignee ? this.person(row.assignee.id, "agent", row.assignee.name) : null;
    talk.open = row.state === "open";
    if (row.last && row.last.seq > (talk.last?.seq ?? 0)) {
      const { seq, time_ms, author_kind, preview } = row.last;
      const kind = row.last.kind === "file" && /\.(png|jpe?g|gif|webp)$/i.test(preview) ? "image" : row.last.kind;
      talk.last = { seq, time_ms, author: author_kind as PersonKind, author_id: "", kind, preview };
      talk.time_ms = Math.max(talk.time_ms, time_ms);
    }
    talk.time_ms ||= row.opened_ms;
    // What was answered needs nobody's attention, whoever read it.
    const answered = talk.last !== null && talk.last.author !== "visitor";
    const fresh = answered ? 0 : Math.max(0, Math.min(row.unread, row.public_head - talk.read_to));
    // What was counted as it came stays counted.
    if (fresh === 0) talk.unread = 0;
    else if (talk.unread === 0 || untold) {
      talk.unread = fresh;
      talk.counted = false;
    }
  }

  #conversation(seen: Conversation): void {
    const visitor = this.people.get(seen.visitor) ?? null;
    const talk = this.#talk(seen.id, seen.site, visitor);
    talk.assignee = seen.assignee ? (this.people.get(seen.assignee) ?? null) : null;
    talk.open = seen.state === "open";
    talk.head = Math.max(talk.head, seen.public_head);
    talk.time_ms = Math.max(talk.time_ms, seen.public_time_ms);
    const theirs = seen.marks[seen.visitor];
    if (theirs) talk.theirs = { ...theirs };
    const own = this.#client?.ownMark(seen.id).read ?? 0;
    if (own > talk.read_to) talk.read_to = own;
    if (talk.read_to >= talk.head) talk.unread = 0;
  }

  #entries(entries: Entry[]): void {
    for (const entry of entries) {
      const talk = this.talks.get(entry.conversation);
      if (!talk) continue;
      const { body } = entry;
      talk.typing.delete(entry.author);
      if (body.kind === "opened" && "page" in body) {
        talk.page = body.page;
        talk.opened_ms ||= entry.time_ms;
      }
      if (body.kind === "assigned" && "agent" in body && entry.seq === this.#client?.conversations.get(talk.id)?.staff_head) {
        talk.assignee = this.people.get(body.agent) ?? null;
      }
      if (entry.lane === "public" && entry.seq > (talk.last?.seq ?? 0)) this.#newest(talk, entry);
    }
    this.#soon();
  }

  #newest(talk: Talk, { seq, time_ms, author: author_id, body }: Entry): void {
    talk.head = Math.max(talk.head, seq);
    talk.time_ms = Math.max(talk.time_ms, time_ms);
    // The list shows what was said last; that somebody joined or closed is read in the conversation.
    if (body.kind !== "text" && body.kind !== "file") return;
    const author = this.people.get(author_id)?.kind ?? "system";
    if (author === "visitor" && seq > talk.read_to) {
      if (talk.unread === 0) talk.counted = true;
      talk.unread += 1;
      if (talk === this.shown && !place.awake && talk.seam === 0) talk.seam = seq - 1;
    }
    let kind: string | number = body.kind;
    let preview = "";
    if ("text" in body) preview = body.text;
    else if ("mime" in body) {
      preview = body.caption || body.name;
      if (body.mime.startsWith("image/")) kind = "image";
    }
    talk.last = { seq, time_ms, author, author_id, kind, preview: preview.slice(0, 240) };
  }

  #thin(): void {
    const oldest = [...this.talks.values()].sort((a, b) => b.time_ms - a.time_ms);
    for (const talk of oldest.slice(Math.floor(TALKS_MAX * 0.9))) {
      if (talk !== this.shown && talk.tray.length === 0) this.talks.delete(talk.id);
    }
  }
}

export const desk = new Desk();
