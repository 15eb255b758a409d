/**
 * A desk in memory that speaks the server's side of the protocol: what the client is tested against,
 * and what the mock server puts behind a socket. It keeps the counter rules, lanes and cursors of the
 * real one; it forgets nothing unless it is told to restart or to restore an older history.
 */
import { decodeUp, encodeDown, toBase64 } from "../src/codec.js";
import { LIMITS, REFUSAL } from "../src/wire.js";
import type { Down, DownEntry, DraftBody, EntryBody, Lane, Up, UpDraft, UpHello } from "../src/wire.js";

type Ref = string | number;

export interface Place {
  conversation: string;
  lane: Lane;
  seq: number;
  position: number;
  time_ms: number;
}

export interface Row extends Place {
  author: string;
  /** Persons are named by id here. */
  body: Record<string, unknown> & { kind: string };
}

interface DeskConversation {
  id: string;
  visitor: string;
  assignee: string;
  state: "open" | "closed";
  heads: Record<Lane, number>;
  marks: Map<string, { delivered: number; read: number }>;
}

interface Device {
  highest: number;
  settled: number;
  answers: Map<number, { hash: string; place: Place }>;
}

interface Individual {
  id: string;
  kind: "visitor" | "agent" | "bot";
  name: string;
}

export class Desk {
  epoch = toBase64(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
  rows: Row[] = [];
  conversations = new Map<string, DeskConversation>();
  devices = new Map<string, Device>();
  generations = new Map<string, number>();
  persons = new Map<string, Individual>();
  peers = new Set<Peer>();
  /** What to refuse a new draft with, if anything. */
  refuse: (draft: UpDraft) => number = () => 0;
  heartbeat_ms = 25_000;
  private ids = 0;

  constructor(readonly now: () => number) {}

  newId(): string {
    const bytes = new Uint8Array(16);
    this.ids += 1;
    new DataView(bytes.buffer).setUint32(0, this.ids);
    bytes[15] = 7;
    return toBase64(bytes);
  }

  person(kind: Individual["kind"], name: string): Individual {
    const person = { id: this.newId(), kind, name };
    this.persons.set(person.id, person);
    return person;
  }

  /** The process ends and comes back: connections go, refusals were never durable. */
  restart(): void {
    for (const peer of [...this.peers]) peer.end();
    this.generations.clear();
  }

  /** An older copy of the history comes back, under a new epoch. */
  restore(rows: number): void {
    this.rows = this.rows.slice(0, rows);
    this.devices.clear();
    this.epoch = toBase64(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, this.rows.length));
    for (const conversation of this.conversations.values()) {
      conversation.heads = { public: 0, staff: 0 };
      for (const row of this.rows) if (row.conversation === conversation.id) conversation.heads[row.lane] = row.seq;
    }
    this.restart();
  }

  append(conversation: DeskConversation, lane: Lane, author: string, body: Row["body"]): Row {
    const seq = (conversation.heads[lane] += 1);
    const row: Row = {
      conversation: conversation.id,
      lane,
      seq,
      position: (this.rows.length + 1) * 64,
      time_ms: this.now(),
      author,
      body,
    };
    this.rows.push(row);
    return row;
  }

  /** The visitor's conversation; begun or reopened by its first entry. */
  mine(visitor: string, begin: boolean, page = ""): DeskConversation | undefined {
    let found = [...this.conversations.values()].find((one) => one.visitor === visitor);
    if (!begin) return found;
    if (!found) {
      found = { id: this.newId(), visitor, assignee: "", state: "open", heads: { public: 0, staff: 0 }, marks: new Map() };
      this.conversations.set(found.id, found);
      this.append(found, "public", visitor, { kind: "opened", visitor, page });
      const agent = [...this.peers].find((peer) => peer.who.kind === "agent" && peer.greeted);
      if (agent) {
        found.assignee = agent.who.id;
        this.append(found, "staff", "", { kind: "assigned", agent: agent.who.id, why: "the fewest conversations" });
        this.append(found, "public", agent.who.id, { kind: "joined", agent: agent.who.id });
      }
    } else if (found.state === "closed") {
      found.state = "open";
      this.append(found, "public", visitor, { kind: "reopened" });
    }
    return found;
  }

  follow(): void {
    for (const peer of [...this.peers]) peer.follow();
  }
}

/** One connection. */
export class Peer {
  greeted = false;
  private device = "";
  private generation = 0;
  where = "";
  private next = 0;
  private synced = 0;
  private conversations: string[] = [];
  private persons: string[] = [];
  private out: Down[] = [];

  constructor(
    readonly desk: Desk,
    readonly who: Individual,
    private readonly send: (batch: Uint8Array) => void,
    private readonly close: () => void,
  ) {
    desk.peers.add(this);
  }

  end(): void {
    if (this.desk.peers.delete(this)) {
      this.close();
      if (this.greeted) this.presence(false);
    }
  }

  receive(batch: Uint8Array): void {
    for (const frame of decodeUp(batch) as Up[]) {
      if (!this.desk.peers.has(this)) return;
      this.take(frame);
    }
    this.flush();
    this.desk.follow();
  }

  /** Sends what the cursor has not passed yet. */
  follow(): void {
    if (!this.greeted) return;
    const { rows } = this.desk;
    while (this.next < rows.length) {
      const row = rows[this.next] as Row;
      this.next += 1;
      const conversation = this.desk.conversations.get(row.conversation);
      if (conversation && this.sees(conversation, row.lane)) this.out.push(this.entry(row));
      if (this.out.length > 100) this.flush();
    }
    const cursor = this.next * 64;
    if (cursor !== this.synced) this.out.push({ op: "synced", cursor });
    this.synced = cursor;
    this.flush();
  }

  private flush(): void {
    let batch: Down[] = [];
    let bytes = 0;
    for (const frame of this.out.splice(0)) {
      const size = encodeDown([frame]).length;
      if (bytes + size > LIMITS.batch_bytes_max) {
        this.send(encodeDown(batch));
        [batch, bytes] = [[], 0];
      }
      batch.push(frame);
      bytes += size;
    }
    if (batch.length) this.send(encodeDown(batch));
  }

  private sees(conversation: DeskConversation, lane: Lane): boolean {
    return this.who.kind !== "visitor" || (conversation.visitor === this.who.id && lane === "public");
  }

  private take(frame: Up): void {
    if (!this.greeted && frame.op !== "hello") return this.refused(REFUSAL.Protocol);
    switch (frame.op) {
      case "hello":
        return this.hello(frame);
      case "ping":
        return void this.out.push({ op: "pong", nonce: frame.nonce });
      case "draft":
        return this.draft(frame);
      case "page":
        return this.page(frame);
      case "gap": {
        const conversation = this.find(frame.conversation);
        const rows = this.rowsOf(conversation, frame.lane).filter((row) => row.seq > frame.have);
        for (const row of rows.slice(0, LIMITS.page_entries_max)) this.out.push(this.entry(row));
        return;
      }
      case "mark":
        return this.mark(frame.conversation, frame.delivered, frame.read);
      case "typing": {
        const conversation = this.find(frame.conversation);
        if (!conversation) return;
        this.others(conversation, (peer) => {
          const handle = peer.conversation(conversation);
          peer.out.push({ op: "typing", conversation: handle, person: peer.handle(this.who.id), on: frame.on });
        });
        return;
      }
      case "bye":
        return this.end();
    }
  }

  private hello(hello: UpHello): void {
    const { desk } = this;
    const highest = desk.generations.get(hello.device) ?? 0;
    if (hello.generation < highest) return this.refused(REFUSAL.Fenced);
    for (const peer of [...desk.peers]) {
      if (peer !== this && peer.device === hello.device) peer.refused(REFUSAL.Fenced);
    }
    desk.generations.set(hello.device, hello.generation);
    this.device = hello.device;
    this.generation = hello.generation;
    this.where = hello.page ?? "";
    this.greeted = true;
    const known = hello.epoch === desk.epoch;
    // Who has a cursor is told what came since, and nothing where nothing came; others only how things stand.
    const cursor = known ? hello.cursor : 0;
    this.next = cursor ? Math.floor(cursor / 64) : desk.rows.length;
    this.synced = cursor;
    const person = this.handle(this.who.id);
    this.out.push({
      op: "hello_ok",
      version: 1,
      caps: 0,
      epoch: desk.epoch,
      person,
      counter: desk.devices.get(hello.device)?.highest ?? 0,
      heartbeat_ms: desk.heartbeat_ms,
      text_max: LIMITS.text_bytes_max,
      batch_max: LIMITS.batch_bytes_max,
      upload_max: 25 * 1024 * 1024,
      unsettled_max: LIMITS.unsettled_max,
      now_ms: desk.now(),
      watermark: desk.rows.length * 64,
    });
    const moved = new Set(desk.rows.slice(cursor ? this.next : 0).map((row) => row.conversation));
    for (const conversation of desk.conversations.values()) {
      if (moved.has(conversation.id) && this.sees(conversation, "public")) this.conversation(conversation);
    }
    for (const mark of hello.marks) this.mark(mark.conversation, mark.delivered, mark.read);
    this.presence(true);
  }

  private draft(draft: UpDraft): void {
    const { desk } = this;
    if ((desk.generations.get(this.device) ?? 0) > this.generation) return this.refused(REFUSAL.Fenced);
    let device = desk.devices.get(this.device);
    if (!device) desk.devices.set(this.device, (device = { highest: 0, settled: 0, answers: new Map() }));
    device.settled = Math.max(device.settled, draft.settled);
    for (const counter of device.answers.keys()) if (counter < device.settled) device.answers.delete(counter);
    const hash = JSON.stringify([draft.conversation, draft.lane, draft.body]);
    const { counter } = draft;
    const known = device.answers.get(counter);
    if (known) return known.hash === hash ? this.accepted(counter, known.place) : this.refuse(counter, REFUSAL.DeviceCloned);
    if (counter < device.settled) return this.refuse(counter, REFUSAL.AlreadySettled);
    if (counter <= device.highest) return this.refuse(counter, REFUSAL.Forgotten);
    if (counter - Math.max(device.settled, 1) >= LIMITS.unsettled_max) return this.refuse(counter, REFUSAL.TooManyUnsettled);
    if (counter - 1 !== device.highest && counter > device.settled) return this.refuse(counter, REFUSAL.CounterGap);
    const no = desk.refuse(draft);
    if (no) {
      if (no >= 4000) device.highest = counter;
      return this.refuse(counter, no);
    }
    const conversation = draft.conversation === "mine" ? desk.mine(this.who.id, true, this.where) : this.find(draft.conversation);
    if (!conversation) return this.refuse(counter, REFUSAL.UnknownConversation);
    device.highest = counter;
    const row = desk.append(conversation, draft.lane, this.who.id, this.entryBody(draft.body));
    if (draft.body.kind === "close") conversation.state = "closed";
    if (this.who.kind === "agent" && !conversation.assignee) conversation.assignee = this.who.id;
    device.answers.set(counter, { hash, place: row });
    this.accepted(counter, row);
  }

  /** Uploads that the mock server took, by ticket. */
  static uploads = new Map<string, { mime: string; size: number; width: number; height: number }>();

  private entryBody(body: DraftBody): Row["body"] {
    if (body.kind === "close") return { kind: "closed" };
    if (body.kind !== "file") return body as Row["body"];
    const { upload, name, caption } = body as { upload: string; name: string; caption: string };
    const known = Peer.uploads.get(upload) ?? { mime: "application/octet-stream", size: 0, width: 0, height: 0 };
    return { kind: "file", name, caption, ...known, upload };
  }

  private accepted(counter: number, place: Place): void {
    const conversation = this.desk.conversations.get(place.conversation) as DeskConversation;
    const { lane, seq, position, time_ms } = place;
    const handle = this.conversation(conversation);
    this.out.push({
      op: "settled",
      counter,
      outcome: { kind: "accepted", conversation: handle, lane, seq, position, time_ms },
    });
  }

  private refuse(counter: number, code: number): void {
    this.out.push({ op: "settled", counter, outcome: { kind: "refused", code, text: `refused ${code}`, retry_after_ms: 0 } });
  }

  refused(code: number, retry_after_ms = 0): void {
    this.out.push({ op: "refused", code, text: `refused ${code}`, retry_after_ms });
    this.flush();
    this.end();
  }

  goaway(delay_ms: number): void {
    this.out.push({ op: "goaway", reason: 1, delay_ms });
    this.flush();
  }

  resync(): void {
    this.out.push({ op: "resync", reason: 1 });
    this.next = this.desk.rows.length;
    for (const conversation of this.desk.conversations.values()) {
      if (this.sees(conversation, "public")) this.head(conversation, this.conversation(conversation));
    }
    this.flush();
  }

  private page({ request, conversation: ref, lane, before, limit }: Extract<Up, { op: "page" }>): void {
    const conversation = this.find(ref);
    if (!conversation) return;
    const below = this.rowsOf(conversation, lane).filter((row) => before === 0 || row.seq < before);
    const rows = below.slice(-limit);
    for (const row of rows) this.out.push(this.entry(row));
    this.out.push({
      op: "page_end",
      request,
      conversation: this.conversation(conversation),
      lane,
      first: rows[0]?.seq ?? 0,
      more: below.length > rows.length,
    });
  }

  private mark(ref: Ref, delivered: number, read: number): void {
    const conversation = this.find(ref);
    if (!conversation) return;
    const old = conversation.marks.get(this.who.id) ?? { delivered: 0, read: 0 };
    const mark = { delivered: Math.max(old.delivered, delivered), read: Math.max(old.read, read) };
    conversation.marks.set(this.who.id, mark);
    this.others(conversation, (peer) => {
      const handle = peer.conversation(conversation);
      peer.out.push({ op: "mark", conversation: handle, person: peer.handle(this.who.id), ...mark });
    });
  }

  private presence(online: boolean): void {
    for (const peer of this.desk.peers) {
      if (peer === this || !peer.greeted || peer.persons.indexOf(this.who.id) < 0) continue;
      peer.out.push({ op: "presence", person: peer.handle(this.who.id), online });
      peer.flush();
    }
  }

  private others(conversation: DeskConversation, tell: (peer: Peer) => void): void {
    for (const peer of this.desk.peers) {
      if (peer === this || !peer.greeted || peer.who.id === this.who.id || !peer.sees(conversation, "public")) continue;
      tell(peer);
      peer.flush();
    }
  }

  private find(ref: Ref): DeskConversation | undefined {
    if (ref === "mine") return this.desk.mine(this.who.id, false);
    const id = typeof ref === "number" ? (this.conversations[ref - 2] ?? "") : ref;
    const conversation = this.desk.conversations.get(id);
    return conversation && this.sees(conversation, "public") ? conversation : undefined;
  }

  private rowsOf(conversation: DeskConversation | undefined, lane: Lane): Row[] {
    if (!conversation || !this.sees(conversation, lane)) return [];
    return this.desk.rows.filter((row) => row.conversation === conversation.id && row.lane === lane);
  }

  private conversation(conversation: DeskConversation): number {
    const known = this.conversations.indexOf(conversation.id);
    if (known >= 0) return known + 2;
    const handle = this.conversations.push(conversation.id) + 1;
    this.head(conversation, handle);
    return handle;
  }

  private head({ id, visitor, assignee, state, heads, marks }: DeskConversation, handle: number): void {
    const newest = this.desk.rows.filter((row) => row.conversation === id && row.lane === "public").at(-1);
    const frame: Down = {
      op: "conversation",
      handle,
      id,
      site: "DEMO",
      visitor: this.handle(visitor),
      assignee: assignee ? this.handle(assignee) : 0,
      state,
      public_head: heads.public,
      staff_head: this.who.kind === "visitor" ? 0 : heads.staff,
      public_time_ms: newest?.time_ms ?? 0,
      marks: [...marks].map(([person, mark]) => ({ person: this.handle(person), ...mark })),
    };
    this.out.push(frame);
  }

  private handle(id: string): number {
    if (!id) return 0;
    const known = this.persons.indexOf(id);
    if (known >= 0) return known + 1;
    const handle = this.persons.push(id);
    const { kind, name } = this.desk.persons.get(id) as Individual;
    const online = [...this.desk.peers].some((peer) => peer.greeted && peer.who.id === id);
    this.out.push({ op: "person", handle, id, kind, name, online });
    return handle;
  }

  private entry(row: Row): DownEntry {
    const { lane, seq, position, time_ms } = row;
    const body = { ...row.body } as Record<string, unknown>;
    delete body.upload;
    for (const name of ["visitor", "agent"]) if (typeof body[name] === "string") body[name] = this.handle(body[name]);
    const conversation = this.conversation(this.desk.conversations.get(row.conversation) as DeskConversation);
    const author = this.handle(row.author);
    return { op: "entry", conversation, lane, seq, position, time_ms, author, body: body as unknown as EntryBody };
  }
}
