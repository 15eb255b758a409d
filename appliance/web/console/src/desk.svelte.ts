// What the console knows: people, conversations, entries, and what is on its way out. It is fed by the session
// (live) and by the JSON API (lists), and both may say the same thing twice or late.
//
// Invariants: a conversation exists once, whoever named it first; an entry stands once, at its Position; what the
// agent wrote is on the screen from the moment it was sent until its entry takes its place, or until they discard
// it; every list is a view of the same conversations, so nothing can be in two states.
import { SvelteMap } from "svelte/reactivity";
import { ApiRefusal, api, upload, type ConversationRow, type ListName, type Self, type SiteName, type Uploaded } from "./api";
import { Link, type Body, type ConversationSeen, type EntrySeen, type Lane, type LinkState, type PersonKind, type Settled } from "./link";
import { keep, kept, place } from "./place.svelte";

const TALKS_MAX = 2_000;
/** Conversations whose entries stay in memory after they left the screen. */
const LOADED_MAX = 24;
const PAGE_ENTRIES = 50;
const TYPING_SHOWN_MS = 6_000;
const TYPING_SAID_EVERY_MS = 3_000;
const MARKS_EVERY_MS = 1_000;
export const PARCELS_MAX = 10;
const DRAFT = "lodge.draft.";

export class Person {
  name = $state("");
  online = $state(false);
  constructor(readonly id: string, public kind: PersonKind) {}
}

export interface Entry {
  lane: Lane; seq: number; position: number; time_ms: number; author: Person | null; body: Body;
}

export interface Last { seq: number; time_ms: number; author: "visitor" | "agent" | "bot" | "system"; author_id: string | null; kind: string; preview: string }

/** A file between the agent's hand and the server. */
export class Parcel {
  readonly url: string | null;
  width = 0;
  height = 0;
  progress = $state(0);
  step = $state<"uploading" | "ready" | "failed">("uploading");
  why = $state("");
  uploaded: Uploaded | null = null;
  #stop = new AbortController();
  #done: Promise<void>;

  constructor(readonly file: File, private site: string) {
    this.url = file.type.startsWith("image/") && file.type !== "image/svg+xml" ? URL.createObjectURL(file) : null;
    if (this.url) void this.#measure(this.url);
    this.#done = this.#send();
  }

  /** Resolves when it is on the server; false when it will not get there by itself. */
  async arrived(): Promise<boolean> {
    await this.#done;
    return this.step === "ready";
  }

  again(): void {
    this.step = "uploading";
    this.progress = 0;
    this.#done = this.#send();
  }

  drop(): void {
    this.#stop.abort();
    if (this.url) URL.revokeObjectURL(this.url);
  }

  async #send(): Promise<void> {
    try {
      this.uploaded = await upload(this.site, this.file, (share) => { this.progress = share; }, this.#stop.signal);
      this.step = "ready";
    } catch (refusal) {
      this.why = refusal instanceof ApiRefusal && refusal.code ? refusal.in(place.language) : place.words.unreachable;
      this.step = "failed";
    }
  }

  async #measure(url: string): Promise<void> {
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
      this.width = image.naturalWidth;
      this.height = image.naturalHeight;
    } catch { /* Not an image after all: it travels as a file. */ }
  }
}

/** Something the agent said that has no place in the log yet. */
export class Outgoing {
  step = $state<"sending" | "failed">("sending");
  why = $state("");
  readonly time_ms = Date.now();
  constructor(public key: string, readonly body: { kind: "text"; text: string } | { kind: "file"; parcel: Parcel; caption: string } | { kind: "close" }) {}
}

export class Talk {
  visitor = $state() as Person;
  assignee = $state<Person | null>(null);
  open = $state(true);
  head = $state(0);
  last = $state.raw<Last | null>(null);
  opened_ms = $state(0);
  unread = $state(0);
  vouched = $state<boolean | null>(null);
  device = $state("");
  page = $state("");
  /** By Position, both lanes. */
  entries = $state.raw<Entry[]>([]);
  loaded = $state<"no" | "loading" | "yes">("no");
  more = $state(false);
  outgoing = $state<Outgoing[]>([]);
  tray = $state<Parcel[]>([]);
  typing = new SvelteMap<string, number>();
  marks = new SvelteMap<string, { delivered: number; read: number }>();
  /** Where the unread part began when it was opened; a line is drawn there. */
  seam = $state(0);
  read_to = 0;

  constructor(readonly id: string, public site: string, visitor: Person) {
    this.visitor = visitor;
  }

  get draft(): string {
    return kept(DRAFT + this.id) ?? "";
  }
  set draft(text: string) {
    keep(DRAFT + this.id, text === "" ? null : text);
  }
}

class Desk {
  self = $state.raw<Self | null>(null);
  sites = $state.raw<SiteName[]>([]);
  link = $state.raw<LinkState>({ is: "connecting" });
  outbox = $state(0);
  text_bytes_max = $state(16_384);
  upload_bytes_max = $state(25 * 1024 * 1024);
  people = new SvelteMap<string, Person>();
  talks = new SvelteMap<string, Talk>();
  list = $state<ListName>("mine");
  sought = $state("");
  shown = $state.raw<Talk | null>(null);
  /** Where each list goes on; absent = not asked yet, null = at its end. */
  next = new SvelteMap<ListName, string | null>();
  loading = $state(false);

  #link: Link | null = null;
  #selves = new Set<string>();
  #ways = new Map<string, { talk: Talk; outgoing: Outgoing }>();
  #recent: Talk[] = [];
  #said = new Map<string, number>();
  #owed = new Set<Talk>();
  #owing: ReturnType<typeof setTimeout> | undefined;
  #cold = true;

  begin(self: Self, sites: SiteName[]): void {
    this.self = self;
    this.sites = sites;
    this.#selves = new Set([self.id]);
    this.person(self.id, "agent", self.name).online = true;
    this.#cold = true;
    this.#link = new Link({
      state: (state) => { this.link = state; },
      ready: (id, limits) => this.#ready(id, limits),
      person: (seen) => {
        const person = this.person(seen.id, seen.kind, seen.name);
        person.online = seen.online;
      },
      conversation: (seen) => this.#conversation(seen),
      entry: (seen) => this.#entry(seen),
      settled: (key, outcome) => this.#settled(key, outcome),
      typing: (conversation, person, on) => this.#typing(conversation, person, on),
      mark: (conversation, mark) => this.talks.get(conversation)?.marks.set(mark.person, mark),
      synced: () => this.#mend(),
      resync: () => this.#forgetEntries(),
    });
    this.#link.start();
    void this.refresh();
  }

  end(): void {
    this.#link?.stop();
    this.#link = null;
    this.self = null;
    this.shown = null;
    this.talks.clear();
    this.people.clear();
    this.next.clear();
    this.#ways.clear();
    this.#recent = [];
    this.#owed.clear();
    clearTimeout(this.#owing);
    this.outbox = 0;
  }

  isSelf(person: Person | null): boolean {
    return person !== null && this.#selves.has(person.id);
  }

  siteName(app: string): string {
    return this.sites.find((site) => site.app === app)?.name ?? app;
  }

  in(list: ListName, talk: Talk): boolean {
    switch (list) {
      case "mine": return talk.open && this.isSelf(talk.assignee);
      case "unassigned": return talk.open && talk.assignee === null;
      case "open": return talk.open;
      case "closed": return !talk.open;
    }
  }

  /** One list, newest first. */
  view(list: ListName): Talk[] {
    const talks = [...this.talks.values()].filter((talk) => talk.last !== null && this.in(list, talk));
    return talks.sort((a, b) => (b.last?.time_ms ?? 0) - (a.last?.time_ms ?? 0));
  }

  get unread(): number {
    let sum = 0;
    for (const talk of this.talks.values()) {
      if (talk.open && (talk.assignee === null || this.isSelf(talk.assignee))) sum += talk.unread;
    }
    return sum;
  }

  /** Fetches the first page of what is looked at and of what is counted. */
  async refresh(): Promise<void> {
    this.loading = true;
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

  async #load(list: ListName, before: string | null): Promise<void> {
    const page = await api.conversations(list, before);
    for (const row of page.conversations) this.#row(row);
    this.next.set(list, page.next);
  }

  show(id: string | null): void {
    if (this.shown?.id === id) return;
    if (this.shown) this.shown.seam = 0;
    const talk = id === null ? null : (this.talks.get(id) ?? this.#talk(id, "", this.person(`?${id}`, "visitor", "")));
    this.shown = talk;
    if (!talk) return;
    talk.seam = talk.unread > 0 ? Math.max(1, talk.head - talk.unread + 1) : 0;
    this.#recent = [talk, ...this.#recent.filter((one) => one !== talk)];
    for (const old of this.#recent.splice(LOADED_MAX)) this.#unload(old);
    if (talk.loaded === "no") void this.#open(talk);
  }

  async #open(talk: Talk): Promise<void> {
    const link = this.#link;
    if (!link) return;
    talk.loaded = "loading";
    const [spoken] = await Promise.all([
      link.page(talk.id, "public", 0, PAGE_ENTRIES),
      link.page(talk.id, "staff", 0, PAGE_ENTRIES),
    ]);
    talk.more = spoken.more;
    talk.loaded = "yes";
  }

  async older(talk: Talk): Promise<void> {
    const first = talk.entries.find((entry) => entry.lane === "public");
    if (talk.loaded !== "yes" || !talk.more || !first || !this.#link) return;
    talk.loaded = "loading";
    const page = await this.#link.page(talk.id, "public", first.seq, PAGE_ENTRIES);
    const staff = talk.entries.find((entry) => entry.lane === "staff");
    if (staff && staff.seq > 1) await this.#link.page(talk.id, "staff", staff.seq, PAGE_ENTRIES);
    talk.more = page.more;
    talk.loaded = "yes";
  }

  /** The newest of it is on a screen that somebody looks at. */
  seen(talk: Talk): void {
    if (talk.read_to >= talk.head && talk.unread === 0) return;
    talk.read_to = Math.max(talk.read_to, talk.head);
    talk.unread = 0;
    this.#owe(talk);
  }

  say(talk: Talk, text: string): void {
    const words = text.trim();
    const parcels = talk.tray;
    talk.tray = [];
    const caption = parcels.length === 1 ? words : "";
    for (const parcel of parcels) this.#leave(talk, new Outgoing("", { kind: "file", parcel, caption }));
    if (words && !caption) this.#leave(talk, new Outgoing("", { kind: "text", text: words }));
    talk.draft = "";
    this.typing(talk, false);
  }

  finish(talk: Talk): void {
    this.#leave(talk, new Outgoing("", { kind: "close" }));
  }

  attach(talk: Talk, files: Iterable<File>): { large: string | null; many: boolean } {
    let large: string | null = null;
    let many = false;
    for (const file of files) {
      if (file.size > this.upload_bytes_max) large = file.name;
      else if (talk.tray.length >= PARCELS_MAX) many = true;
      else talk.tray.push(new Parcel(file, talk.site));
    }
    return { large, many };
  }

  detach(talk: Talk, parcel: Parcel): void {
    parcel.drop();
    talk.tray = talk.tray.filter((one) => one !== parcel);
  }

  again(talk: Talk, outgoing: Outgoing): void {
    outgoing.step = "sending";
    if (outgoing.body.kind === "file" && outgoing.body.parcel.step === "failed") outgoing.body.parcel.again();
    void this.#send(talk, outgoing);
  }

  discard(talk: Talk, outgoing: Outgoing): void {
    if (outgoing.body.kind === "file") outgoing.body.parcel.drop();
    talk.outgoing = talk.outgoing.filter((one) => one !== outgoing);
  }

  typing(talk: Talk, on: boolean): void {
    const said = this.#said.get(talk.id) ?? 0;
    if (on ? Date.now() - said < TYPING_SAID_EVERY_MS : said === 0) return;
    this.#said.set(talk.id, on ? Date.now() : 0);
    this.#link?.typing(talk.id, on);
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

  #leave(talk: Talk, outgoing: Outgoing): void {
    if (outgoing.body.kind !== "close") talk.outgoing.push(outgoing);
    // The list holds a proxied copy; what is changed later must be that one.
    void this.#send(talk, talk.outgoing.at(-1) && outgoing.body.kind !== "close" ? (talk.outgoing.at(-1) as Outgoing) : outgoing);
  }

  async #send(talk: Talk, outgoing: Outgoing): Promise<void> {
    const { body } = outgoing;
    if (body.kind === "file") {
      if (!(await body.parcel.arrived())) {
        outgoing.why = body.parcel.why;
        outgoing.step = "failed";
        return;
      }
      if (!body.parcel.uploaded) return;
      outgoing.key = this.#post(talk, outgoing, { kind: "file", upload: body.parcel.uploaded.upload, name: body.parcel.file.name, caption: body.caption });
    } else {
      outgoing.key = this.#post(talk, outgoing, body);
    }
  }

  #post(talk: Talk, outgoing: Outgoing, body: Parameters<Link["send"]>[2]): string {
    const key = this.#link?.send(talk.id, "public", body) ?? "";
    this.#ways.set(key, { talk, outgoing });
    this.outbox = this.#ways.size;
    return key;
  }

  #settled(key: string, outcome: Settled): void {
    const way = this.#ways.get(key);
    if (!way) return;
    this.#ways.delete(key);
    this.outbox = this.#ways.size;
    const { talk, outgoing } = way;
    if (!outcome.accepted) {
      outgoing.why = outcome.text;
      outgoing.step = "failed";
      if (outgoing.body.kind === "close") talk.outgoing = talk.outgoing.filter((one) => one !== outgoing);
      return;
    }
    talk.outgoing = talk.outgoing.filter((one) => one.key !== key);
    const body = settledBody(outgoing);
    if (body) this.#place(talk, { ...outcome, author: this.people.get([...this.#selves].at(-1) ?? "") ?? null, body });
    if (outgoing.body.kind === "file") outgoing.body.parcel.drop();
  }

  #ready(id: string, limits: { text_bytes_max: number; upload_bytes_max: number }): void {
    this.#selves.add(id);
    this.person(id, "agent", this.self?.name ?? "");
    this.text_bytes_max = limits.text_bytes_max;
    this.upload_bytes_max = limits.upload_bytes_max;
    if (!this.#cold) void this.refresh();
    this.#cold = false;
  }

  #talk(id: string, site: string, visitor: Person): Talk {
    let talk = this.talks.get(id);
    if (!talk) {
      talk = new Talk(id, site, visitor);
      this.talks.set(id, talk);
      if (this.talks.size > TALKS_MAX) this.#thin();
    }
    if (site) talk.site = site;
    if (!visitor.id.startsWith("?")) talk.visitor = visitor;
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
    talk.head = row.public_head;
    talk.assignee = row.assignee ? this.person(row.assignee.id, "agent", row.assignee.name) : null;
    talk.open = row.state === "open";
    if (row.last && row.last.seq >= (talk.last?.seq ?? 0)) {
      const { seq, time_ms, author_kind, kind, preview } = row.last;
      const author_id = talk.last?.seq === seq ? talk.last.author_id : null;
      talk.last = { seq, time_ms, author: author_kind as Last["author"], author_id, kind, preview };
    }
    talk.unread = talk.read_to >= row.public_head ? 0 : row.unread;
  }

  #conversation(seen: ConversationSeen): void {
    const visitor = seen.visitor ? this.people.get(seen.visitor) : undefined;
    const talk = this.#talk(seen.id, seen.site, visitor ?? this.person(`?${seen.id}`, "visitor", ""));
    talk.assignee = seen.assignee ? (this.people.get(seen.assignee) ?? null) : null;
    talk.open = seen.state === "open";
    for (const mark of seen.marks) {
      talk.marks.set(mark.person, mark);
      if (this.#selves.has(mark.person)) talk.read_to = Math.max(talk.read_to, mark.read);
    }
  }

  #entry(seen: EntrySeen): void {
    const talk = this.talks.get(seen.conversation);
    if (!talk) return;
    const author = seen.author ? (this.people.get(seen.author) ?? null) : null;
    this.#place(talk, { ...seen, author });
  }

  /** Puts an entry where it belongs, and lets the conversation follow it when it is the newest. */
  #place(talk: Talk, entry: Entry): void {
    if (entry.author) talk.typing.delete(entry.author.id);
    if (entry.lane === "public" && entry.seq > talk.head) this.#advance(talk, entry);
    this.#follow(talk, entry);
    if (talk.loaded === "no") return;
    const entries = talk.entries.slice();
    let at = entries.length;
    while (at > 0 && (entries[at - 1] as Entry).position > entry.position) at -= 1;
    const twin = entries[at - 1];
    // The log's own word replaces what was put there when the draft settled.
    if (twin && twin.position === entry.position && twin.lane === entry.lane && twin.seq === entry.seq) entries[at - 1] = entry;
    else entries.splice(at, 0, entry);
    talk.entries = entries;
  }

  #advance(talk: Talk, entry: Entry): void {
    talk.head = entry.seq;
    const author = entry.author?.kind ?? "system";
    if (author === "visitor" && (entry.body.kind === "text" || entry.body.kind === "file") && entry.seq > talk.read_to) talk.unread += 1;
    if (talk.opened_ms === 0) talk.opened_ms = entry.time_ms;
    const preview = entry.body.kind === "text" ? entry.body.text : entry.body.kind === "file" ? entry.body.caption || entry.body.name : "";
    const kind = entry.body.kind === "file" && entry.body.mime.startsWith("image/") ? "image" : entry.body.kind;
    talk.last = { seq: entry.seq, time_ms: entry.time_ms, author, author_id: entry.author?.id ?? null, kind, preview: preview.slice(0, 240) };
    if (this.isSelf(talk.assignee)) this.#owe(talk);
  }

  /** What the newest facts say about who has it and whether it is open. */
  #follow(talk: Talk, entry: Entry): void {
    const { body } = entry;
    if (body.kind === "opened" && body.page) talk.page = body.page;
    const later = talk.entries.at(-1);
    if (later && later.position > entry.position) return;
    if (body.kind === "closed") talk.open = false;
    if (body.kind === "reopened") talk.open = true;
    if (body.kind === "assigned" && talk.loaded !== "loading") talk.assignee = body.agent ? (this.people.get(body.agent) ?? null) : null;
  }

  #typing(conversation: string, person: string, on: boolean): void {
    const talk = this.talks.get(conversation);
    if (!talk) return;
    if (!on) return void talk.typing.delete(person);
    const until = Date.now() + TYPING_SHOWN_MS;
    talk.typing.set(person, until);
    setTimeout(() => { if (talk.typing.get(person) === until) talk.typing.delete(person); }, TYPING_SHOWN_MS);
  }

  #owe(talk: Talk): void {
    this.#owed.add(talk);
    this.#owing ??= setTimeout(() => {
      this.#owing = undefined;
      for (const one of this.#owed) this.#link?.mark(one.id, one.head, one.read_to);
      this.#owed.clear();
    }, MARKS_EVERY_MS);
  }

  /** Asks again for what is missing between two entries that are there. */
  #mend(): void {
    for (const talk of this.#recent) {
      if (talk.loaded !== "yes") continue;
      let have = 0;
      for (const entry of talk.entries) {
        if (entry.lane !== "public") continue;
        if (have > 0 && entry.seq > have + 1) {
          this.#link?.gap(talk.id, "public", have);
          break;
        }
        have = entry.seq;
      }
    }
  }

  #forgetEntries(): void {
    for (const talk of this.#recent) this.#unload(talk);
    this.#recent = [];
    if (this.shown) {
      this.#recent = [this.shown];
      void this.#open(this.shown);
    }
    void this.refresh();
  }

  #unload(talk: Talk): void {
    talk.entries = [];
    talk.loaded = "no";
    talk.more = false;
  }

  #thin(): void {
    const kept_ = [...this.talks.values()].sort((a, b) => (b.last?.time_ms ?? 0) - (a.last?.time_ms ?? 0));
    for (const talk of kept_.slice(Math.floor(TALKS_MAX * 0.9))) {
      if (talk !== this.shown && talk.outgoing.length === 0) this.talks.delete(talk.id);
    }
  }
}

/** The body that a settled draft will have as an entry, as far as this side can know it. */
function settledBody(outgoing: Outgoing): Body | null {
  const { body } = outgoing;
  if (body.kind === "text") return body;
  if (body.kind === "close") return { kind: "closed" };
  const { parcel } = body;
  const found = parcel.uploaded;
  if (!found) return null;
  return {
    kind: "file", name: parcel.file.name, mime: found.mime, size: found.size,
    width: found.width || parcel.width, height: found.height || parcel.height, caption: body.caption,
  };
}

export const desk = new Desk();
