// What an agent relies on for eight hours: the built console, the real server, real visitors.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Agent, Visitor, launch, picture } from "./browser.mjs";
import { Cable, Lodge, until } from "./lodge.mjs";
import { Office, Shop, chatter, vouch } from "./stage.mjs";

/** Longer than anything takes on a busy machine; what never comes fails its own test and no other. */
const STEP_MS_MAX = 20_000;
const SECRET = "tea and biscuits at four";
let lodge, cable, shop, browser, desk, office, lin;

before(async () => {
  lodge = await Lodge.start("console");
  cable = await Cable.lay(lodge.port);
  shop = await Shop.open();
  desk = await lodge.setUp([shop.address]);
  office = await Office.enter(lodge, desk);
  lin = await office.ask("POST", "agents", { login: "lin", name: "Lin", role: "agent", password: SECRET });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  shop?.close();
  cable?.close();
  await lodge?.kill();
});

// Whoever a failed test left behind would be given the conversations of the next one.
afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));

/** Somebody at a desk of their own. */
async function sit(who = desk, address = lodge.address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", ...options });
  context.setDefaultTimeout(STEP_MS_MAX);
  const agent = new Agent(await context.newPage());
  agent.errors = [];
  agent.page.on("pageerror", (error) => agent.errors.push(String(error)));
  await agent.signIn(address, who);
  await agent.page.locator(".list-pane").waitFor();
  return agent;
}

async function visit(name, ...lines) {
  const context = await browser.newContext({ viewport: { width: 420, height: 760 }, locale: "en-GB" });
  context.setDefaultTimeout(STEP_MS_MAX);
  const visitor = new Visitor(await context.newPage());
  await visitor.page.goto(`${lodge.address}/chat/${desk.app}${name && `#identity=${vouch(desk, `${name}-${Date.now()}`, name)}`}`);
  for (const line of lines) await says(visitor, line);
  return visitor;
}

async function says(visitor, line) {
  await visitor.write(line);
  await visitor.page.locator(".own:not(.waiting) .bubble", { hasText: line }).last().waitFor();
}

const leave = (...people) => Promise.all(people.map((one) => one.page.context().close()));
const row = (agent, words) => agent.page.locator("[data-talk]", { hasText: words }).first();
const list = (agent, name) => agent.page.getByRole("tab", { name }).click();
const said = (agent, words) => agent.log.getByText(words, { exact: true });

test("a conversation appears by itself, is counted in list and title, and is read once looked at", async () => {
  const agent = await sit();
  const title = () => agent.page.title();
  assert.equal(await title(), "Lodge");
  const visitor = await visit("Nora", "Is the shop open today?");
  await row(agent, "Nora").getByText("Is the shop open today?").waitFor();
  await until("the title counts", async () => (await title()) === "(1) Lodge");
  await says(visitor, "And tomorrow?");
  await row(agent, "Nora").locator(".badge", { hasText: "2" }).waitFor();
  await row(agent, "Nora").click();
  await said(agent, "And tomorrow?").waitFor();
  await row(agent, "Nora").locator(".badge").waitFor({ state: "detached" });
  await until("the title is quiet", async () => (await title()) === "Lodge");
  await until("the visitor sees it", async () => /Read$/.test(await visitor.page.locator(".own .meta").last().innerText()));
  await leave(agent, visitor);
});

test("what is new after a reload is marked without inventing a number", async () => {
  const agent = await sit();
  const visitor = await visit("Rita", "one message");
  await row(agent, "Rita").locator(".badge").waitFor();
  await agent.page.reload();
  await row(agent, "Rita").locator(".badge").waitFor();
  const badge = (await row(agent, "Rita").locator(".badge").innerText()).trim();
  assert.ok(badge === "" || badge === "1", `one message, and the badge says ${badge}`);
  await leave(agent, visitor);
});

test("a reload keeps the conversation, the draft and what was said, once", async () => {
  const agent = await sit();
  const visitor = await visit("Olga", "Before the reload");
  await row(agent, "Olga").click();
  await agent.write("An answer");
  await said(agent, "An answer").waitFor();
  await until("it is acknowledged", async () => (await agent.log.locator(".reached").count()) > 0);
  await agent.box.fill("half a sent");
  await visitor.page.getByText("Online", { exact: true }).waitFor();
  await visitor.page.evaluate(() => {
    globalThis.sawOffline = false;
    const look = () => (globalThis.sawOffline ||= document.body.innerText.includes("Offline"));
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await agent.page.reload();
  await said(agent, "An answer").waitFor();
  assert.equal(await said(agent, "Before the reload").count(), 1);
  assert.equal(await said(agent, "An answer").count(), 1);
  assert.equal(await agent.box.inputValue(), "half a sent");
  assert.equal(await visitor.page.evaluate(() => globalThis.sawOffline), false, "a reload is no absence");
  await leave(agent, visitor);
});

test("a dropped connection is said in one line and mended without losing or doubling", async () => {
  const agent = await sit(desk, `http://localhost:${cable.port}`);
  const visitor = await visit("Pavel", "Can you hear me?");
  await row(agent, "Pavel").click();
  await said(agent, "Can you hear me?").waitFor();
  cable.pull();
  await agent.page.locator(".link-bar p").waitFor();
  await agent.write("one");
  await agent.write("two");
  await agent.log.getByText("Sending").first().waitFor();
  await says(visitor, "meanwhile");
  cable.plug();
  await said(agent, "meanwhile").waitFor();
  await agent.page.locator(".link-bar p").waitFor({ state: "detached" });
  await visitor.page.locator(".theirs .bubble", { hasText: "two" }).waitFor();
  assert.deepEqual(await visitor.page.locator(".theirs .bubble").allInnerTexts(), ["one", "two"]);
  assert.deepEqual(await agent.log.locator(".bubble").allInnerTexts(), ["Can you hear me?", "meanwhile", "one", "two"]);
  await leave(agent, visitor);
});

test("two agents who look at one conversation see the same, each in their own place", async () => {
  const mei = await sit();
  const visitor = await visit("Quentin", "Who of you is it?");
  const other = await sit({ login: "lin", password: SECRET });
  await row(mei, "Quentin").click();
  await list(other, "Open");
  await row(other, "Quentin").click();
  await said(other, "Who of you is it?").waitFor();
  await mei.write("It is me, Mei");
  await said(other, "It is me, Mei").waitFor();
  await other.write("And Lin helps");
  await said(mei, "And Lin helps").waitFor();
  await mei.log.locator(".house .by", { hasText: "Lin" }).waitFor();
  await other.log.locator(".house .by", { hasText: "Mei" }).waitFor();
  await said(mei, "And Lin helps").waitFor();
  for (const one of [mei, other]) {
    assert.deepEqual(await one.log.locator(".bubble").allInnerTexts(), ["Who of you is it?", "It is me, Mei", "And Lin helps"]);
  }
  await visitor.page.locator(".theirs .bubble", { hasText: "And Lin helps" }).waitFor();
  assert.deepEqual(await visitor.page.locator(".theirs .bubble").allInnerTexts(), ["It is me, Mei", "And Lin helps"]);
  await leave(mei, other, visitor);
});

test("a conversation that is given to an agent while another is open moves nothing under their hands", async () => {
  const agent = await sit();
  const first = await visit("Sven", "I am first");
  await row(agent, "Sven").click();
  await said(agent, "I am first").waitFor();
  await agent.box.fill("I am just wri");
  const second = await visit("Tove", "I am second");
  await row(agent, "Tove").locator(".badge", { hasText: "1" }).waitFor();
  assert.equal(await agent.box.inputValue(), "I am just wri");
  assert.equal(await agent.box.evaluate((box) => document.activeElement === box), true);
  assert.equal(await said(agent, "I am second").count(), 0);
  await leave(agent, first, second);
});

test("history of several hundred lines pages up without moving what is read", async () => {
  const agent = await sit();
  const visitor = await visit("Ulla");
  await chatter(visitor.page, 330, (n) => `line ${n}`);
  await row(agent, "line 330").click();
  await said(agent, "line 330").waitFor();
  // Another device: only the end is held.
  const fresh = await sit();
  await row(fresh, "line 330").click();
  await said(fresh, "line 330").waitFor();
  await until("it stands at its end", () => fresh.log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 50));
  const lines = async () => (await fresh.log.locator(".bubble").allInnerTexts()).map((text) => Number(text.slice(5)));
  assert.ok((await lines()).length < 330, "it asked for everything at once");
  for (let round = 0; (await lines())[0] !== 1; round++) {
    assert.ok(round < 20, `still at ${(await lines())[0]}`);
    const moved = await fresh.log.evaluate(async (log) => {
      log.scrollTop = 200;
      const top = log.getBoundingClientRect().top;
      const line = [...log.querySelectorAll(".said")].find((one) => one.getBoundingClientRect().top > top + 20);
      const before = line.getBoundingClientRect().top;
      const count = log.querySelectorAll(".said").length;
      for (let frame = 0; frame < 300 && log.querySelectorAll(".said").length === count; frame++) await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      return Math.abs(line.getBoundingClientRect().top - before);
    });
    assert.ok(moved <= 2, `moved by ${moved} px`);
  }
  assert.deepEqual(await lines(), Array.from({ length: 330 }, (_, n) => n + 1));
  // That it was closed and went on is seen down there; what is counted up here is what somebody said.
  await agent.page.locator(".talk-pane header .button").click();
  await agent.page.locator("dialog[open] [data-first]").click();
  await visitor.page.locator(".note", { hasText: "closed" }).waitFor();
  await says(visitor, "line 331");
  await said(fresh, "line 331").waitFor({ state: "attached" });
  await fresh.page.locator(".to-end", { hasText: /\b1\b/ }).waitFor();
  await leave(agent, fresh, visitor);
});

test("the lists are one stop of the keyboard, and the arrows lead from one to the next", async () => {
  const agent = await sit();
  const { keyboard } = agent.page;
  const chosen = () => agent.page.locator('[role="tab"]:focus[aria-selected="true"]').innerText();
  await agent.page.getByRole("tab", { name: "Mine" }).click();
  for (const [key, name] of [["ArrowRight", "Unassigned"], ["End", "Closed"], ["ArrowRight", "Mine"], ["ArrowLeft", "Closed"], ["Home", "Mine"]]) {
    await keyboard.press(key);
    await until(`${key} leads to ${name}`, async () => (await chosen()).startsWith(name));
  }
  assert.equal(await agent.page.locator('[role="tab"][tabindex="0"]').count(), 1);
  await leave(agent);
});

test("pictures open large, arrows lead through them, and the focus comes back", async () => {
  const agent = await sit();
  const visitor = await visit("Viggo", "Two pictures");
  await visitor.send([picture("red.png", 60, 40, [200, 0, 0]), picture("blue.png", 40, 60, [0, 0, 200])]);
  await row(agent, "Viggo").click();
  const pictures = agent.log.locator("button.picture");
  await until("both are shown", async () => (await pictures.count()) === 2 && (await pictures.locator("img").evaluateAll((all) => all.every((one) => one.complete && one.naturalWidth > 0))));
  await pictures.first().focus();
  await agent.page.keyboard.press("Enter");
  const shown = () => agent.page.locator("dialog[open] img").evaluate((image) => `${image.naturalWidth}×${image.naturalHeight}`);
  await until("the first", async () => (await shown()) === "60×40");
  await agent.page.keyboard.press("ArrowRight");
  await until("the second", async () => (await shown()) === "40×60");
  await agent.page.keyboard.press("Escape");
  await until("the focus is back", () => pictures.first().evaluate((one) => document.activeElement === one));
  await leave(agent, visitor);
});

test("a file that is refused says why, goes when it is tried again, and blocks nothing", async () => {
  const agent = await sit();
  const visitor = await visit("Wanda", "Please send me the list");
  await row(agent, "Wanda").click();
  let refuse = true;
  await agent.page.route("**/api/v1/uploads**", (route) =>
    refuse ? route.fulfill({ status: 413, contentType: "application/json", body: '{"error":{"code":4007,"name":"TooLarge","text":"This is too large."}}' }) : route.continue(),
  );
  await agent.send({ name: "list.csv", mimeType: "text/csv", buffer: Buffer.from("a,b\n") });
  await agent.log.getByText("Not sent · This is too large.").waitFor();
  await agent.write("It is on its way");
  await visitor.page.locator(".theirs .bubble", { hasText: "It is on its way" }).waitFor();
  refuse = false;
  await agent.log.getByRole("button", { name: "Try again" }).click();
  await visitor.page.locator(".theirs .card:enabled", { hasText: "list.csv" }).waitFor();
  assert.equal(await agent.log.locator(".refused").count(), 0);
  await leave(agent, visitor);
});

test("the visitor is described beside the conversation, vouched for or not", async () => {
  const agent = await sit();
  const known = await visit("Xaver", "Known");
  const stranger = await visit("", "Unknown");
  await row(agent, "Xaver").click();
  const pane = agent.page.locator(".visitor-pane");
  await pane.getByRole("heading", { name: "Xaver" }).waitFor();
  await pane.getByText("Vouched for").waitFor();
  await pane.getByText("Tea", { exact: true }).waitFor();
  await row(agent, "Unknown").click();
  await pane.locator(".vouch:not(.sure)").waitFor();
  await leave(agent, known, stranger);
});

test("who signs out leaves nothing of their work on the device", async () => {
  const agent = await sit();
  const visitor = await visit("Yara", "A secret of mine");
  await row(agent, "Yara").click();
  await agent.box.fill("half a secret");
  await agent.page.goto(`${lodge.address}/console/#/settings/prefs`);
  await agent.page.getByRole("button", { name: "Sign out" }).first().click();
  await agent.page.locator('[autocomplete="username"]').waitFor();
  const kept = await agent.page.evaluate(async () => JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + (await indexedDB.databases()).length);
  assert.ok(!kept.includes("secret") && kept.endsWith("0"), kept);
  assert.equal(await agent.page.title(), "Lodge");
  assert.equal((await fetch(`${lodge.address}/api/v1/me`, { headers: { cookie: (await agent.page.context().cookies()).map((one) => `${one.name}=${one.value}`).join("; ") } })).status, 401);
  await agent.page.goBack();
  assert.equal(await agent.page.getByText("A secret of mine").count(), 0);
  await leave(agent, visitor);
});

test("a session that the operator ends closes the desk that is open, and says so", async () => {
  const other = await sit({ login: "lin", password: SECRET });
  const visitor = await visit("Zoe", "Still here");
  await list(other, "Open");
  await row(other, "Zoe").click();
  await said(other, "Still here").waitFor();
  // The one from the beginning has made room for newer sessions of the same operator.
  office = await Office.enter(lodge, desk);
  await office.ask("PATCH", `agents/${lin.id}`, { disabled: true });
  await other.page.locator(".ended").waitFor();
  assert.equal(await other.page.getByText("Still here").count(), 0);
  assert.deepEqual(other.errors, []);
  await office.ask("PATCH", `agents/${lin.id}`, { disabled: false });
  await leave(other, visitor);
});

test("nothing is cut off or wider than the screen, whatever people are called", async () => {
  const name = "Bartholomew Featherstonehaugh-Cholmondeley, Purchasing, Northern Region, Second Floor";
  const visitor = await visit(name, "w".repeat(300));
  for (const viewport of [{ width: 1280, height: 800 }, { width: 1000, height: 700 }, { width: 390, height: 844 }]) {
    const agent = await sit(desk, lodge.address, { viewport });
    await list(agent, "Open");
    await row(agent, "www").click();
    await agent.log.locator(".said").first().waitFor();
    const beyond = await agent.page.evaluate(() => [...document.querySelectorAll(".talk-pane, .talk-pane header, .talk-pane .composer, .log .bubble, .list-pane")].filter((one) => one.offsetParent).map((one) => [one.className, Math.round(one.getBoundingClientRect().right - Math.min(innerWidth, one.parentElement.getBoundingClientRect().right))]).filter(([, by]) => by > 0));
    assert.deepEqual(beyond, [], `${viewport.width} px`);
    await leave(agent);
  }
  await leave(visitor);
});
