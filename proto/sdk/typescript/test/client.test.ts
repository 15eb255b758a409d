/** The client's session against a desk in memory, over a link that drops, with a clock turned by hand. */
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, OUTBOX_MAX } from "../src/client.js";
import type { Entry } from "../src/model.js";
import { IndexedStore, MemoryStore } from "../src/store.js";
import { LIMITS, REFUSAL } from "../src/wire.js";
import { SharedStore, Sim } from "./sim.js";

/** How many stories the hostile link tells; a failure names its seed. */
const SEEDS = Number(process.env.SEEDS ?? 100);
const CONFIG = { server_url: "https://desk.example", app_id: "DEMO" };

function scene(seed = 1) {
  const sim = new Sim(seed);
  const visitor = sim.desk.person("visitor", "Visitor").id;
  const agent = sim.desk.person("agent", "Ada").id;
  return { sim, visitor, agent };
}

/** What a screen shows, in its order. */
const texts = (client: Client, to?: string) =>
  client.timeline(to).flatMap(({ entry, pending }) => {
    const body = entry?.body ?? pending?.body;
    return body?.kind === "text" ? [(body as { text: string }).text] : [];
  });

/** What the desk holds, in its order. */
const held = (sim: Sim) => sim.desk.rows.filter((row) => row.body.kind === "text").map((row) => String(row.body.text));

const settled = (client: Client) => client.outbox.length === 0 && client.timeline().every((item) => item.entry);

test("a text reaches the desk and comes back in its place", async () => {
  const { sim, visitor } = scene();
  const client = new Client(CONFIG, sim.world(visitor));
  assert.equal(client.status, "idle");
  await client.open();
  await client.send("hello");
  assert.deepEqual(texts(client), ["hello"]);
  await sim.run(5_000, () => settled(client) && client.status === "connected");
  assert.deepEqual(held(sim), ["hello"]);
  const [opened, hello] = client.timeline();
  assert.equal(opened?.entry?.body.kind, "opened");
  assert.equal(hello?.entry?.seq, 2);
  assert.equal(hello?.key, "draft 1", "the line on the screen stays the same line");
});

test("the page is said, and nothing of what stands behind its #", async () => {
  const long = "x".repeat(LIMITS.token_bytes_max);
  for (const [page, told] of [
    [undefined, ""],
    ["https://shop.example/cart?item=7#identity=a.b.c", "https://shop.example/cart?item=7"],
    [`https://shop.example/cart?${long}`, "https://shop.example/cart"],
    [`https://shop.example/${long}`, ""],
  ] as const) {
    const { sim, visitor } = scene();
    const client = new Client({ ...CONFIG, ...(page && { page }) }, sim.world(visitor));
    await client.open();
    await client.send("hello");
    await sim.run(5_000, () => settled(client) && client.status === "connected");
    assert.deepEqual(client.timeline()[0]?.entry?.body, { kind: "opened", visitor, page: told });
    assert.ok(!sim.requests.some((request) => JSON.stringify(request).includes("shop.example")));
  }
});

test("nothing is stored, asked or opened before it is wanted", async () => {
  const { sim, visitor } = scene();
  const client = new Client(CONFIG, sim.world(visitor));
  await sim.run(60_000);
  assert.equal(client.status, "idle");
  assert.deepEqual(sim.requests, []);
});

for (let seed = 1; seed <= SEEDS; seed += 1) {
  test(`seed ${seed}: what is written stands there once and in order, whatever the link does`, async () => {
    const { sim, visitor, agent } = scene(seed);
    sim.drop = 0.08;
    const store = new MemoryStore();
    let world = sim.world(visitor, store);
    let client = new Client(CONFIG, world);
    const desk = new Client({ server_url: CONFIG.server_url }, sim.world(agent));
    await Promise.all([client.open(), desk.open()]);
    const written: string[] = [];
    const answered: string[] = [];
    for (let turn = 0; turn < 30; turn += 1) {
      const roll = sim.random();
      if (roll < 0.6) {
        written.push(`v${turn}`);
        await client.send(`v${turn}`);
      } else if (roll < 0.75) {
        const [conversation] = desk.conversations.values();
        if (conversation) {
          answered.push(`a${turn}`);
          await desk.send(`a${turn}`, conversation.id);
        }
      } else if (roll < 0.8) sim.desk.restart();
      else if (roll < 0.85) sim.desk.peers.forEach((peer) => peer.who.id === visitor && peer.resync());
      else if (roll < 0.9) sim.desk.peers.forEach((peer) => peer.goaway(200));
      else if (roll < 0.95) {
        // The page is reloaded: whatever was on its way is forgotten, the store is not.
        client.close();
        world = sim.world(visitor, store);
        client = new Client(CONFIG, world);
        await client.open();
      } else {
        sim.online = false;
        await sim.run(3_000 * sim.random());
        sim.online = true;
        world.wake();
      }
      await sim.run(700 * sim.random());
    }
    const quiet = () => settled(client) && desk.outbox.length === 0 && held(sim).length === written.length + answered.length;
    sim.drop = 0;
    await sim.run(120_000, quiet);
    // Long enough for a connection that died in silence to be noticed and replaced.
    await sim.run(70_000);
    const [id] = sim.desk.conversations.keys();
    const all = held(sim);
    assert.deepEqual(all.filter((text) => text.startsWith("v")), written, `seed ${seed}`);
    assert.deepEqual(all.filter((text) => text.startsWith("a")), answered, `seed ${seed}`);
    while (await whole(sim, client.history())) void 0;
    while (await whole(sim, desk.history(id ?? ""))) void 0;
    assert.deepEqual(texts(client), all, `seed ${seed}: the visitor's screen`);
    assert.deepEqual(texts(desk, id), all, `seed ${seed}: the agent's screen`);
    client.close();
    desk.close();
  });
}

async function whole<T>(sim: Sim, promise: Promise<T>): Promise<T> {
  let done = false;
  void promise.finally(() => (done = true));
  await sim.run(30_000, () => done);
  return promise;
}

test("a hole is asked for again, and filled in order", async () => {
  const { sim, visitor } = scene();
  const client = new Client(CONFIG, sim.world(visitor));
  await client.open();
  await client.send("one");
  await sim.run(5_000, () => settled(client));
  const { desk } = sim;
  const conversation = desk.mine(visitor, false);
  assert.ok(conversation);
  const [peer] = desk.peers;
  assert.ok(peer);
  for (const text of ["two", "three"]) desk.append(conversation, "public", visitor, { kind: "text", text });
  // The first of the two is lost on the way although the connection lives.
  (peer as unknown as { next: number }).next += 1;
  peer.follow();
  await sim.run(2_000);
  assert.deepEqual(texts(client), ["one", "two", "three"]);
});

test("a device that was told how things stand, and left before the history came, asks for it when it is back", async () => {
  for (const back of ["a reload", "another connection"] as const) {
    const { sim, visitor } = scene();
    const { desk } = sim;
    const conversation = desk.mine(visitor, true) ?? assert.fail();
    for (let line = 1; line <= 60; line += 1) desk.append(conversation, "public", visitor, { kind: "text", text: `line ${line}` });
    const store = new MemoryStore();
    let client = new Client(CONFIG, sim.world(visitor, store));
    await client.open();
    // The heads and their cursor are kept; the page that was asked for is not here yet.
    await sim.run(5_000, () => client.conversations.size > 0);
    await sim.run(0);
    assert.deepEqual(texts(client), []);
    const { state } = await store.read(assert.fail as never);
    assert.equal(state.cursor, desk.rows.length * 64);
    if (back === "a reload") {
      client.close();
      client = new Client(CONFIG, sim.world(visitor, store));
      await client.open();
    } else for (const peer of [...desk.peers]) peer.end();
    await sim.run(10_000);
    assert.equal(client.status, "connected");
    assert.deepEqual(texts(client), held(sim).slice(-40), back);
  }
});

test("a page of which only the beginning came leaves no hole at its end", async () => {
  const { sim, visitor } = scene();
  const { desk } = sim;
  const conversation = desk.mine(visitor, true) ?? assert.fail();
  // Forty of these do not fit into one batch.
  const long = "x".repeat(4_000);
  for (let line = 1; line <= 60; line += 1) desk.append(conversation, "public", visitor, { kind: "text", text: `${line} ${long}` });
  const store = new MemoryStore();
  let client = new Client(CONFIG, sim.world(visitor, store));
  await client.open();
  await sim.run(5_000, () => texts(client).length > 0);
  assert.ok(texts(client).length < 40, `${texts(client).length} came at once`);
  client.close();
  client = new Client(CONFIG, sim.world(visitor, store));
  await client.open();
  await sim.run(10_000);
  assert.deepEqual(texts(client), held(sim).slice(-texts(client).length));
});

test("a text that was answered before the page that holds it was whole stands there once", async () => {
  const { sim, visitor } = scene();
  const { desk } = sim;
  const client = new Client(CONFIG, sim.world(visitor));
  await client.open();
  await client.send("mine");
  // It is answered and not told; the first line that is told is one behind it.
  const { follow } = desk;
  desk.follow = () => {};
  await sim.run(5_000, () => client.status === "connected" && client.outbox.length === 0);
  const conversation = desk.mine(visitor, false) ?? assert.fail();
  for (const peer of desk.peers) (peer as unknown as { next: number }).next = desk.rows.length;
  desk.follow = follow;
  desk.append(conversation, "public", visitor, { kind: "text", text: "newer" });
  desk.follow();
  await sim.run(5_000, () => texts(client).includes("newer"));
  await whole(sim, client.history());
  assert.deepEqual(texts(client), ["mine", "newer"]);
});

test("what came behind what is held is asked for to its end, however much it is", async () => {
  const { sim, visitor, agent } = scene();
  const { desk } = sim;
  const conversation = desk.mine(visitor, true) ?? assert.fail();
  desk.append(conversation, "public", visitor, { kind: "text", text: "line 0" });
  const client = new Client({ server_url: CONFIG.server_url }, sim.world(agent));
  await client.open();
  await sim.run(5_000, () => client.conversations.size > 0);
  await whole(sim, client.history(conversation.id));
  assert.deepEqual(texts(client, conversation.id), ["line 0"]);
  for (let line = 1; line <= 2 * LIMITS.page_entries_max + 1; line += 1) {
    desk.append(conversation, "public", visitor, { kind: "text", text: `line ${line}` });
  }
  // Nobody tells an agent of a conversation without a part in it.
  const [peer] = desk.peers;
  (peer as unknown as { next: number }).next = desk.rows.length;
  client.newer(conversation.id);
  await sim.run(5_000);
  assert.deepEqual(texts(client, conversation.id), held(sim));
});

test("a page that is left and looked at again within a second of its last attempt connects again", async () => {
  const { sim, visitor } = scene();
  const world = sim.world(visitor);
  const client = new Client(CONFIG, world);
  await client.open();
  await sim.run(900, () => client.status === "connected");
  assert.equal(client.status, "connected");
  world.sleep();
  assert.equal(client.status, "waiting");
  world.wake();
  await sim.run(5_000);
  assert.equal(client.status, "connected");
  // Asleep it stays without a connection, and without a timer that would bring one.
  world.sleep();
  await sim.run(3_600_000);
  assert.equal(client.status, "waiting");
  world.wake();
  await sim.run(5_000);
  assert.equal(client.status, "connected");
});

test("a cloned device goes on as a new one, and nothing is doubled", async () => {
  const { sim, visitor } = scene();
  const store = new MemoryStore();
  const client = new Client(CONFIG, sim.world(visitor, store));
  await client.open();
  await client.send("before");
  await sim.run(5_000, () => settled(client));
  // A copy of the profile wrote under the same counter.
  const [id, device] = [...sim.desk.devices][0] ?? assert.fail();
  device.highest = 2;
  device.answers.set(2, { hash: "another body", place: sim.desk.rows[0] ?? assert.fail() });
  await client.send("after");
  await client.send("and more");
  await sim.run(60_000, () => settled(client));
  // Once each; what was on its way behind the clone's counter may have overtaken what it refused.
  assert.deepEqual([...held(sim)].sort(), ["after", "and more", "before"]);
  assert.equal(sim.desk.devices.size, 2);
  assert.ok(sim.desk.devices.has(id));
});

test("a restored history is a new epoch: what it lost is shown as gone, what waits is sent", async () => {
  const { sim, visitor } = scene();
  const client = new Client(CONFIG, sim.world(visitor));
  await client.open();
  for (const text of ["kept", "lost"]) await client.send(text);
  await sim.run(5_000, () => settled(client));
  sim.desk.restore(2);
  await sim.run(30_000, () => client.status === "connected");
  await sim.run(5_000);
  assert.deepEqual(client.timeline().map(({ entry }) => [entry?.seq, entry?.gone ?? false]), [[1, false], [2, false], [3, true]]);
  await client.send("anew");
  await sim.run(30_000, () => settled(client));
  assert.deepEqual(held(sim), ["kept", "anew"]);
  assert.deepEqual(texts(client), ["kept", "anew"]);
});

test("a refusal is obeyed by its class", async () => {
  const { sim, visitor } = scene();
  let refusals = 0;
  sim.desk.refuse = ({ body }) => {
    if (body.kind !== "text") return 0;
    const { text } = body as { text: string };
    if (text === "never") return REFUSAL.TextEmpty;
    if (text === "later" && refusals < 3) {
      refusals += 1;
      return REFUSAL.Full;
    }
    return 0;
  };
  const client = new Client(CONFIG, sim.world(visitor));
  await client.open();
  for (const text of ["first", "never", "later", "last"]) await client.send(text);
  await sim.run(60_000, () => client.outbox.length === 1 && held(sim).length === 3);
  await sim.run(1_000);
  assert.deepEqual(held(sim), ["first", "later", "last"]);
  const failed = client.timeline().find((item) => item.pending)?.pending;
  assert.equal(failed?.refused?.code, REFUSAL.TextEmpty);
  sim.desk.refuse = () => 0;
  await client.retry(failed?.key ?? 0);
  await sim.run(10_000, () => settled(client));
  assert.deepEqual(held(sim), ["first", "later", "last", "never"]);
});

test("silence is asked about, and a dead connection is left within the heartbeat", async () => {
  const { sim, visitor } = scene();
  const client = new Client(CONFIG, sim.world(visitor));
  await client.open();
  await sim.run(5_000, () => client.status === "connected");
  // The network swallows everything without closing anything.
  sim.online = false;
  const before = sim.now_ms;
  await sim.run(120_000, () => client.status !== "connected");
  assert.ok(sim.now_ms - before <= 25_000 * 1.25 + 11_000, `${sim.now_ms - before} ms`);
  sim.online = true;
  await sim.run(30_000, () => client.status === "connected");
  assert.equal(client.status, "connected");
  // And an idle one that answers is kept.
  const peers = [...sim.desk.peers];
  await sim.run(600_000);
  assert.deepEqual([...sim.desk.peers], peers);
});

test("a second tab takes the connection over and the first gives way without a fight", async () => {
  const { sim, visitor } = scene();
  const store = new MemoryStore();
  const first = new Client(CONFIG, sim.world(visitor, store));
  const world = sim.world(visitor, store);
  await first.open();
  await sim.run(5_000, () => first.status === "connected");
  const second = new Client(CONFIG, world);
  await second.open();
  await sim.run(600_000);
  assert.deepEqual([first.status, second.status], ["elsewhere", "connected"]);
});

test("the outbox and the text have their bounds", async () => {
  const { sim, visitor } = scene();
  const client = new Client(CONFIG, sim.world(visitor));
  await assert.rejects(client.send("字".repeat(LIMITS.text_bytes_max / 3 + 1)), { code: REFUSAL.TextTooLong });
  await client.send("x".repeat(LIMITS.text_bytes_max));
  for (let count = 1; count < OUTBOX_MAX; count += 1) await client.send(`${count}`);
  await assert.rejects(client.send("one more"), { code: REFUSAL.TooMany });
  sim.drop = 0.02;
  await client.open();
  await sim.run(600_000, () => settled(client));
  assert.equal(held(sim).length, OUTBOX_MAX);
  assert.deepEqual(held(sim).slice(1), Array.from({ length: OUTBOX_MAX - 1 }, (_, index) => `${index + 1}`));
});

test("a file is uploaded first, then drafted, and survives a reload between the two", async () => {
  const { sim, visitor } = scene();
  const store = new MemoryStore();
  sim.online = false;
  const first = new Client(CONFIG, sim.world(visitor, store));
  await first.open();
  await first.sendFile(new Blob(["x"]), "a picture.png");
  await first.send("after it");
  await sim.run(5_000);
  first.close();
  sim.online = true;
  const second = new Client(CONFIG, sim.world(visitor, store));
  await second.open();
  await sim.run(60_000, () => settled(second));
  assert.deepEqual(sim.desk.rows.map((row) => row.body.kind).sort(), ["file", "opened", "text"]);
});

test("IndexedDB keeps counters, outbox, cursor and entries over a reload", async () => {
  const { sim, visitor } = scene(7);
  sim.rounds = 40;
  const open = () => IndexedStore.open(indexedDB, "reload");
  let client = new Client(CONFIG, sim.world(visitor, await open()));
  await client.open();
  for (const text of ["one", "two"]) await client.send(text);
  await sim.run(20_000, () => settled(client));
  client.close();
  sim.online = false;
  await client.send("written offline");
  client = new Client(CONFIG, sim.world(visitor, await open()));
  await client.load();
  assert.deepEqual(texts(client), ["one", "two", "written offline"]);
  sim.online = true;
  await client.open();
  await sim.run(20_000, () => settled(client));
  assert.deepEqual(held(sim), ["one", "two", "written offline"]);
  assert.equal(sim.desk.devices.size, 1);
  const entries = client.timeline().map(({ entry }) => (entry as Entry).seq);
  assert.deepEqual(entries, [1, 2, 3, 4]);
  client.close();
});

test("two tabs of one browser never allot the same counter", async () => {
  const { sim, visitor } = scene();
  sim.rounds = 40;
  const tabs = await Promise.all([1, 2].map(() => IndexedStore.open(indexedDB, "tabs")));
  const [first, second] = tabs.map((store) => new Client(CONFIG, sim.world(visitor, store)));
  assert.ok(first && second);
  await Promise.all([first.send("a"), second.send("b"), first.send("c"), second.send("d")]);
  await second.open();
  await sim.run(20_000, () => held(sim).length === 4);
  assert.deepEqual([...held(sim)].sort(), ["a", "b", "c", "d"]);
});

/** Two tabs of one browser; the second has taken the connection. */
async function twoTabs() {
  const { sim, visitor } = scene();
  const store = new SharedStore(sim);
  const worlds = [sim.world(visitor, store.tab()), sim.world(visitor, store.tab())] as const;
  const [first, second] = [new Client(CONFIG, worlds[0]), new Client(CONFIG, worlds[1])];
  await opened(sim, first);
  await whole(sim, first.send("hello"));
  await sim.run(5_000, () => settled(first) && first.status === "connected");
  return { sim, visitor, first, second, worlds };
}

async function opened(sim: Sim, client: Client) {
  void client.open();
  await sim.run(5_000, () => client.status === "connected");
}

test("a tab without a connection shows, once it has one, what another tab stored meanwhile", async () => {
  const { sim, first, second, worlds } = await twoTabs();
  worlds[0].sleep();
  await opened(sim, second);
  // The second one sends it, gets it back and moves the cursor that both of them say.
  await whole(sim, first.send("from the first"));
  await sim.run(5_000, () => second.outbox.length === 0 && texts(second).length === 2);
  await sim.run(2_000);
  worlds[0].wake();
  await sim.run(2_000);
  assert.equal(first.status, "connected");
  assert.deepEqual(texts(first), ["hello", "from the first"]);
  assert.ok(settled(first));
});

test("a draft of a tab that does not know yet that it gave way is sent by the other and shown in both", async () => {
  const { sim, first, second } = await twoTabs();
  const [peer] = [...sim.desk.peers] as unknown as { send(batch: Uint8Array): void; close(): void }[];
  assert.ok(peer);
  const { send } = peer;
  peer.send = (batch) => void sim.after(10_000, () => send(batch));
  peer.close = () => {};
  await opened(sim, second);
  await whole(sim, first.send("from the first"));
  assert.equal(first.status, "connected");
  for (const ms of [5_000, 10_000]) {
    await sim.run(ms);
    for (const tab of [first, second]) assert.deepEqual(texts(tab), ["hello", "from the first"]);
    assert.ok(settled(first) && settled(second));
  }
  assert.deepEqual([first.status, second.status], ["elsewhere", "connected"]);
});

for (const kind of ["text", "file"] as const) {
  test(`a ${kind} that nobody sends after its tab gave way is sent by that tab`, async () => {
    const { sim, first } = await twoTabs();
    if (kind === "text") await whole(sim, first.send("from the first"));
    else await whole(sim, first.sendFile(new Blob(["x"]), "a picture.png"));
    // Whoever took the connection is frozen, or gone again, and hears nothing.
    for (const peer of [...sim.desk.peers]) peer.refused(REFUSAL.Fenced);
    await sim.run(1_000);
    assert.equal(first.status, "elsewhere");
    assert.equal(first.outbox.length, 1);
    await sim.run(60_000, () => settled(first));
    assert.ok(settled(first));
    assert.equal(sim.desk.rows.at(-1)?.body.kind, kind);
  });
}

test("what is tried again in a tab that gave way takes the connection, as what is written there", async () => {
  const { sim, first } = await twoTabs();
  sim.desk.refuse = () => REFUSAL.TextEmpty;
  await whole(sim, first.send("refused once"));
  await sim.run(2_000);
  for (const peer of [...sim.desk.peers]) peer.refused(REFUSAL.Fenced);
  // Long enough for it to see that nothing waits.
  await sim.run(60_000);
  assert.equal(first.status, "elsewhere");
  sim.desk.refuse = () => 0;
  await whole(sim, first.retry(first.outbox[0]?.key ?? 0));
  await sim.run(5_000, () => settled(first));
  assert.deepEqual(held(sim), ["hello", "refused once"]);
});

test("two tabs whose drafts the server holds back do not fight for the connection", async () => {
  const { sim, first, second } = await twoTabs();
  await opened(sim, second);
  let attempts = 0;
  for (const tab of [first, second]) tab.on((event) => void (attempts += Number(event.type === "status" && event.status === "connecting")));
  sim.desk.refuse = () => REFUSAL.Full;
  await whole(sim, first.send("one"));
  await whole(sim, second.send("two"));
  await sim.run(3_600_000);
  // Each of them looks again after 5 s and then half as often each time, until it is every few minutes.
  assert.ok(attempts > 4 && attempts < 60, `${attempts} connections`);
  sim.desk.refuse = () => 0;
  await sim.run(5_000, () => settled(first) && settled(second));
  assert.deepEqual(held(sim), ["hello", "one", "two"]);
});

test("a person who comes back to a tab that has only just given way is connected at once", async () => {
  const { sim, first, worlds } = await twoTabs();
  for (const peer of [...sim.desk.peers]) peer.end();
  await sim.run(5_000, () => first.status === "connecting");
  await sim.run(900, () => first.status === "connected");
  for (const peer of [...sim.desk.peers]) peer.refused(REFUSAL.Fenced);
  await sim.run(500, () => first.status === "elsewhere");
  worlds[0].wake();
  await sim.run(500);
  assert.equal(first.status, "connected");
});

test("of two tabs that both began anew one has the connection, and the other's draft goes when it is closed", async () => {
  const { sim, first, second } = await twoTabs();
  await opened(sim, second);
  sim.desk.restore(2);
  // Both find the new epoch before either knows of the other.
  await sim.run(5_000, () => second.status === "waiting");
  for (const tab of [first, second]) tab.takeOver();
  await sim.run(20_000);
  assert.deepEqual([first.status, second.status].sort(), ["connected", "elsewhere"]);
  const [holder, other] = first.status === "connected" ? [first, second] : [second, first];
  holder.close();
  await whole(sim, other.send("from the other"));
  await sim.run(10_000, () => settled(other));
  assert.deepEqual(held(sim), ["hello", "from the other"]);
});

test("a draft is sent by the tab that wrote it where the disk fails after it gave way", async () => {
  const { sim, visitor } = scene();
  const shared = new SharedStore(sim).tab();
  let broken = false;
  const store = {
    ...shared,
    read: (...asked: Parameters<typeof shared.read>) => (broken ? Promise.reject(new Error("the disk is gone")) : shared.read(...asked)),
  };
  const client = new Client(CONFIG, sim.world(visitor, store));
  await opened(sim, client);
  await whole(sim, client.send("hello"));
  broken = true;
  for (const peer of [...sim.desk.peers]) peer.refused(REFUSAL.Fenced);
  await sim.run(60_000, () => settled(client));
  assert.deepEqual(held(sim), ["hello"]);
  assert.deepEqual(texts(client), ["hello"]);
});

test("who opens the chat while a visitor is still being forgotten is a stranger", async () => {
  const { sim, first } = await twoTabs();
  const told = () => sim.requests.map(({ body }) => JSON.parse(String(body)) as { device: string; token?: string });
  void first.forget();
  await opened(sim, first);
  assert.equal(first.status, "connected");
  const [before, after] = told();
  assert.ok(before && after && told().length === 2);
  assert.notEqual(after.device, before.device);
  assert.equal(after.token, undefined);
  await whole(sim, first.send("a stranger's"));
  await sim.run(5_000, () => settled(first));
  assert.equal(sim.desk.devices.size, 2);
});

for (let seed = 1; seed <= SEEDS; seed += 1) {
  test(`seed ${seed}: two tabs of one browser send everything once, and both show it`, async () => {
    const { sim, visitor, agent } = scene(seed);
    [sim.store_ms_max, sim.tell_ms_max, sim.drop] = [60, 150, 0.03];
    const store = new SharedStore(sim);
    const desk = new Client({ server_url: CONFIG.server_url }, sim.world(agent));
    const open = async () => {
      const world = sim.world(visitor, store.tab());
      const client = new Client(CONFIG, world);
      void client.open();
      return { world, client };
    };
    const tabs = [await open(), await open()];
    await desk.open();
    const written: string[][] = [[], []];
    const answered: string[] = [];
    for (let turn = 0; turn < 30; turn += 1) {
      const which = sim.random() < 0.5 ? 0 : 1;
      const tab = tabs[which] ?? assert.fail();
      const roll = sim.random();
      if (roll < 0.55) {
        const text = `v${which} ${turn}`;
        written[which]?.push(text);
        void tab.client.send(text);
      } else if (roll < 0.65) {
        const [conversation] = desk.conversations.values();
        if (conversation) {
          answered.push(`a${turn}`);
          await desk.send(`a${turn}`, conversation.id);
        }
      } else if (roll < 0.75) tab.world.wake();
      else if (roll < 0.8) sim.desk.restart();
      else if (roll < 0.85) for (const peer of [...sim.desk.peers]) peer.end();
      else if (roll < 0.9) {
        // What was written is on the disk before the page goes.
        await sim.run(500);
        tab.client.close();
        tabs[which] = await open();
      } else tab.client.takeOver();
      await sim.run(300 * sim.random());
    }
    sim.drop = 0;
    const count = written.flat().length + answered.length;
    const quiet = () => tabs.every(({ client }) => settled(client)) && held(sim).length === count;
    await sim.run(120_000, quiet);
    await sim.run(70_000);
    const all = held(sim);
    written.forEach((texts, which) => assert.deepEqual(all.filter((text) => text.startsWith(`v${which} `)), texts));
    assert.equal(all.length, count);
    tabs.forEach(({ client }, which) => assert.deepEqual(texts(client), all, `tab ${which}, ${client.status}`));
    for (const { client } of tabs) client.close();
    desk.close();
  });
}
