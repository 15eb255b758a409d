// What the widget promises to visitors, to the pages that carry it and to the apps that show it: the built
// bundle, the real server, a real browser. What needs a play-acted server stands in web/widget/test.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Agent, Visitor, launch, picture } from "./browser.mjs";
import { Cable, Lodge, until } from "./lodge.mjs";
import { Office, Shop, chatter, vouch } from "./stage.mjs";

/** Longer than anything takes on a busy machine; what never comes fails its own test and no other. */
const STEP_MS_MAX = 20_000;
const RED = picture("red.png", 64, 48, [200, 30, 30]);
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

let lodge, cable, shop, browser, desk, office, agent;

before(async () => {
  lodge = await Lodge.start("widget");
  cable = await Cable.lay(lodge.port);
  shop = await Shop.open();
  desk = await lodge.setUp([shop.address]);
  shop.carry(lodge, desk.app);
  office = await Office.enter(lodge, desk);
  browser = await launch();
  agent = new Agent(await (await browser.newContext({ locale: "en-GB" })).newPage());
  await agent.signIn(lodge.address, desk);
  await agent.page.locator(".list-pane").waitFor();
});

after(async () => {
  await browser?.close();
  shop?.close();
  cable?.close();
  await lodge?.kill();
});

/** A browser of its own: `tab` is its page, `chat` what is in the page's frame, `errors` what went wrong in it. */
async function person(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, locale: "en-GB", ...options });
  context.setDefaultTimeout(STEP_MS_MAX);
  const tab = await context.newPage();
  const errors = [];
  const sockets = [];
  tab.on("pageerror", (error) => errors.push(String(error)));
  tab.on("console", (said) => said.type() === "error" && errors.push(said.text()));
  tab.on("websocket", (socket) => sockets.push(socket));
  return { context, tab, errors, sockets, chat: tab.frameLocator("html > iframe") };
}

const full = (identity = "") => `${lodge.address}/chat/${desk.app}${identity && `#identity=${identity}`}`;
const screen = (root, page = root) => new Visitor(page, root);
const own = (root) => root.locator(".own .bubble").allInnerTexts();
const settled = (root, words) => root.locator(".own:not(.waiting):not(.refused) .bubble", { hasText: words }).first().waitFor();
const stored = (frame) =>
  frame.evaluate(async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length, document.cookie]);

/** What is on the screen may be on its way to the store still; a reload would not wait for it. */
const storedClosed = (frame) =>
  frame.evaluate(async () => {
    const [{ name }] = await indexedDB.databases();
    const answered = (request) => new Promise((next) => (request.onsuccess = () => next(request.result)));
    const database = await answered(indexedDB.open(name));
    const { conversations } = await answered(database.transaction("state").objectStore("state").get("state"));
    database.close();
    return Object.values(conversations).every(({ state }) => state === "closed");
  });

for (const kind of ["strict", "hostile"]) {
  test(`a conversation is held on a ${kind} page`, async () => {
    const { context, tab, chat, errors } = await person();
    await tab.goto(`${shop.address}/${kind}`);
    await chat.locator(".bubble-button").click();
    const words = `From a ${kind} page`;
    await screen(chat, tab).write(words);
    await settled(chat, words);
    await agent.open(words);
    await agent.write(`Answer to the ${kind} page`);
    await chat.locator(".theirs .bubble", { hasText: `Answer to the ${kind} page` }).waitFor();
    const frame = await tab.locator("html > iframe").boundingBox();
    assert.ok(frame.width === 400 && frame.height > 600, JSON.stringify(frame));
    assert.deepEqual(errors, []);
    await context.close();
  });
}

test("the chat lies above a page that covers everything", async () => {
  const { context, tab, chat } = await person();
  await tab.goto(`${shop.address}/covered`);
  await chat.locator(".bubble-button").waitFor();
  const above = await tab.evaluate(() => {
    const { x, y, width, height } = document.querySelector("html > iframe").getBoundingClientRect();
    return document.elementFromPoint(x + width / 2, y + height / 2)?.tagName;
  });
  assert.equal(above, "IFRAME");
  await context.close();
});

test("a page that was only looked at stores nothing, connects nowhere, and is nobody on the server", async () => {
  const { context, tab, chat, sockets } = await person();
  const asked = [];
  tab.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await tab.goto(`${shop.address}/`);
  await chat.locator(".bubble-button").waitFor();
  await tab.reload();
  await chat.locator(".bubble-button").waitFor();
  await tab.waitForLoadState("networkidle");
  assert.deepEqual(await stored(tab.frames()[1]), [0, 0, 0, ""]);
  assert.deepEqual(sockets, []);
  assert.ok(!asked.includes("/api/v1/visitor/token"), asked.join());
  assert.deepEqual(await context.cookies(), []);
  // Opening it is the visitor's word.
  await chat.locator(".bubble-button").click();
  await until("a connection", () => sockets.length === 1);
  await context.close();
});

test("a conversation that goes on connects by itself after a reload; one that is closed does not", async () => {
  const { context, tab, chat, sockets } = await person();
  await tab.goto(`${shop.address}/`);
  await chat.locator(".bubble-button").click();
  await screen(chat, tab).write("It goes on");
  await settled(chat, "It goes on");
  sockets.length = 0;
  await tab.reload();
  await until("a connection", () => sockets.length === 1);
  await chat.locator(".bubble-button").waitFor();
  await agent.open("It goes on");
  await agent.page.locator(".talk-pane header .button").click();
  await agent.page.locator("dialog[open] [data-first]").click();
  await chat.locator(".bubble-button").click();
  await chat.locator(".note", { hasText: "closed" }).waitFor();
  await until("that it is closed is kept", () => storedClosed(tab.frames()[1]));
  await tab.reload();
  await chat.locator(".bubble-button").waitFor();
  await tab.waitForLoadState("networkidle");
  assert.equal(sockets.length, 1);
  await context.close();
});

test("where the site turns presence on, an unopened chat connects", async () => {
  await office.ask("PATCH", `sites/${desk.app}`, { presence: true });
  const { context, tab, sockets } = await person();
  await tab.goto(`${shop.address}/`);
  await until("a connection", () => sockets.length === 1);
  await context.close();
  await office.ask("PATCH", `sites/${desk.app}`, { presence: false });
});

test("who one is: the host's token first, then what is stored, then memory", async () => {
  const name = `bob-${Date.now()}`;
  const first = await person();
  await first.tab.goto(full(vouch(desk, name, "Bob")));
  await screen(first.tab).write("Bob on the phone");
  await settled(first.tab, "Bob on the phone");
  assert.equal(new URL(first.tab.url()).hash, "");
  assert.ok(!(await first.tab.evaluate(() => JSON.stringify(history.state) + location.href)).includes("ey"));
  // From storage: the address says nothing any more.
  await first.tab.goto(full());
  await first.tab.locator(".own .bubble", { hasText: "Bob on the phone" }).waitFor();
  // The host's word comes before what is stored: another person, and nothing of Bob is left on the screen.
  await first.tab.goto("about:blank");
  await first.tab.goto(full(vouch(desk, `eve-${Date.now()}`, "Eve")));
  await screen(first.tab).write("Eve speaks");
  await settled(first.tab, "Eve speaks");
  assert.deepEqual(await own(first.tab), ["Eve speaks"]);
  // Elsewhere, the same word opens the same history.
  const second = await person();
  await second.tab.goto(full(vouch(desk, name, "Bob")));
  await second.tab.locator(".own .bubble", { hasText: "Bob on the phone" }).waitFor();
  await first.context.close();
  await second.context.close();
});

test("a token that is not the site's opens nobody's history, and the page's owner reads why", async () => {
  const name = `carl-${Date.now()}`;
  const known = await person();
  await known.tab.goto(full(vouch(desk, name, "Carl")));
  await screen(known.tab).write("Only for Carl");
  await settled(known.tab, "Only for Carl");
  const { context, tab } = await person();
  const told = [];
  tab.on("console", (said) => said.type() === "warning" && told.push(said.text()));
  await tab.goto(full(vouch({ ...desk, identity_secret: desk.app_secret }, name, "Carl")));
  await screen(tab).write("I say that I am Carl");
  await settled(tab, "I say that I am Carl");
  assert.deepEqual(await own(tab), ["I say that I am Carl"]);
  assert.ok(told.some((text) => text.includes("AppSecret")), told.join());
  await agent.page.locator("[data-talk]", { hasText: "I say that I am Carl" }).getByText(/^Visitor /).waitFor();
  await context.close();
  await known.context.close();
});

test("where storage is forbidden the conversation lives as long as the page", async () => {
  const { context, tab, errors } = await person();
  await context.addInitScript(() => {
    for (const name of ["indexedDB", "localStorage", "sessionStorage"]) {
      Object.defineProperty(window, name, { get: () => { throw new DOMException("no", "SecurityError"); } });
    }
  });
  await tab.goto(full());
  await screen(tab).write("Kept in memory");
  await settled(tab, "Kept in memory");
  assert.deepEqual(errors, []);
  await context.close();
});

test("two tabs of one visitor show one conversation, once", async () => {
  const { context, tab } = await person();
  await tab.goto(full());
  await screen(tab).write("from the first tab");
  await settled(tab, "from the first tab");
  const other = await context.newPage();
  await other.goto(full());
  await other.locator(".own .bubble", { hasText: "from the first tab" }).waitFor();
  await screen(other).write("from the second tab");
  await settled(other, "from the second tab");
  await tab.locator(".own .bubble", { hasText: "from the second tab" }).waitFor();
  // The first one writes on: it takes the connection back, and both agree.
  await screen(tab).write("from the first again");
  await settled(tab, "from the first again");
  await other.locator(".own .bubble", { hasText: "from the first again" }).waitFor();
  const expected = ["from the first tab", "from the second tab", "from the first again"];
  await until("both agree", async () => String(await own(tab)) === String(expected) && String(await own(other)) === String(expected));
  await agent.open("from the first again");
  await agent.log.getByText("from the first again", { exact: true }).waitFor();
  assert.equal(await agent.log.getByText("from the second tab", { exact: true }).count(), 1);
  await context.close();
});

test("pictures and files go by button, by paste and by drop, and arrive whole", async () => {
  const { context, tab } = await person();
  await tab.goto(full());
  await tab.locator("input[type=file]").setInputFiles(RED);
  const carry = (where, how, name, type, bytes) =>
    tab.locator(where).evaluate((element, [how, name, type, bytes]) => {
      const carried = new DataTransfer();
      carried.items.add(new File([new Uint8Array(bytes)], name, { type }));
      const event = how === "paste" ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true }) : new DragEvent(how, { dataTransfer: carried, bubbles: true, cancelable: true });
      element.dispatchEvent(event);
    }, [how, name, type, [...bytes]]);
  await carry(".box", "paste", "pasted.png", "image/png", picture("x", 30, 30, [1, 200, 9]).buffer);
  await carry(".panel", "dragover", "", "text/plain", []);
  await tab.locator(".veil:not([hidden])").waitFor();
  const heic = Buffer.concat([Buffer.from("000000186674797068656963000000006d69663168656963", "hex"), Buffer.alloc(3_000, 7)]);
  await carry(".panel", "drop", "IMG_0042.HEIC", "image/heic", heic);
  assert.equal(await tab.locator(".veil").isHidden(), true);
  await tab.locator("input[type=file]").setInputFiles({ name: "data.xyz", mimeType: "", buffer: Buffer.from("whatever this is") });
  await until("all four left", async () => (await tab.locator(".own:not(.waiting)").count()) === 4);
  // What no browser shows is a file to be kept, with its name and its bytes.
  assert.deepEqual(await tab.locator(".card b").allInnerTexts(), ["IMG_0042.HEIC", "data.xyz"]);
  await until("both pictures are shown", async () => (await tab.locator(".frame.loaded").count()) === 2);
  const [download] = await Promise.all([tab.waitForEvent("download"), tab.locator(".card").first().click()]);
  const parts = [];
  for await (const chunk of await download.createReadStream()) parts.push(chunk);
  assert.ok(Buffer.concat(parts).equals(heic));
  assert.equal(download.suggestedFilename(), "IMG_0042.HEIC");
  // The picture opens large, and closes with a key.
  await tab.locator(".frame").first().click();
  await tab.locator("dialog[open] img").waitFor();
  await tab.keyboard.press("Escape");
  await tab.locator("dialog").waitFor({ state: "detached" });
  await context.close();
});

test("an upload that is refused says why, and goes when it is tried again", async () => {
  const { context, tab } = await person();
  let refuse = true;
  await tab.route("**/api/v1/uploads**", (route) =>
    refuse ? route.fulfill({ status: 413, contentType: "application/json", body: '{"error":{"code":4007,"name":"TooLarge","text":"x"}}' }) : route.continue(),
  );
  await tab.goto(full());
  await tab.locator("input[type=file]").setInputFiles(RED);
  await tab.locator(".refused .why", { hasText: "too large" }).waitFor();
  // It blocks nothing that comes after it.
  await screen(tab).write("after the picture");
  await settled(tab, "after the picture");
  refuse = false;
  await tab.getByRole("button", { name: "Try again" }).click();
  await tab.locator(".own:not(.waiting):not(.refused) .frame.loaded").waitFor();
  assert.equal(await tab.locator(".refused").count(), 0);
  await context.close();
});

test("a file that is larger than the server takes is refused before it leaves", async () => {
  const { context, tab } = await person();
  const uploads = [];
  tab.on("request", (request) => request.url().includes("/uploads") && uploads.push(request.url()));
  await tab.goto(full());
  await tab.locator("input[type=file]").setInputFiles({ name: "film.mp4", mimeType: "video/mp4", buffer: Buffer.alloc(25 * 1024 * 1024 + 1) });
  await tab.locator(".toast:not([hidden])", { hasText: "film.mp4" }).waitFor();
  assert.deepEqual(uploads, []);
  await context.close();
});

test("what was written in a tunnel is kept over a reload there, and sent once when the line is back", async () => {
  const { context, tab } = await person();
  const line = `http://localhost:${cable.port}/chat/${desk.app}`;
  const seen = { ...RED, name: "tunnel.png" };
  let inside = false;
  await tab.routeWebSocket("**/api/**", (socket) => void (inside ? socket.close() : socket.connectToServer()));
  await tab.goto(line);
  await screen(tab).write("before the tunnel");
  await settled(tab, "before the tunnel");
  // The page itself can be had; nothing else can, the moment the cable is plugged for it neither.
  inside = true;
  await tab.route("**/api/**", (route) => route.abort());
  cable.pull();
  await tab.locator(".notice:not([hidden])").waitFor();
  await screen(tab).write("in the tunnel");
  await tab.locator("input[type=file]").setInputFiles(seen);
  await tab.locator(".waiting .bubble", { hasText: "in the tunnel" }).waitFor();
  assert.match(await tab.locator(".own .meta").last().innerText(), /Sending/);
  await tab.locator(".waiting .frame").waitFor();
  cable.plug();
  await tab.reload();
  await tab.locator(".waiting .bubble", { hasText: "in the tunnel" }).waitFor();
  await tab.unrouteAll();
  const back = await context.newPage();
  await tab.close();
  await back.goto(line);
  await settled(back, "in the tunnel");
  await back.locator(".own:not(.waiting) .frame.loaded").waitFor();
  await agent.open("tunnel.png");
  await agent.log.getByText("in the tunnel", { exact: true }).waitFor();
  assert.equal(await agent.log.getByText("in the tunnel", { exact: true }).count(), 1);
  assert.equal(await agent.log.locator("button.picture").count(), 1);
  await context.close();
});

test("sending, sent, delivered and read are what they say, and typing is seen both ways", async () => {
  const { context, tab } = await person();
  await agent.page.goto(`${lodge.address}/console/#/`);
  await tab.goto(full());
  const meta = tab.locator(".own .meta").last();
  // "Sent" means acknowledged: the answer is held back for a while, and nothing else is claimed meanwhile.
  lodge.pause();
  await screen(tab).write("How far did this get?");
  await tab.locator(".waiting .bubble").waitFor();
  assert.match(await meta.innerText(), /Sending/);
  lodge.go();
  await settled(tab, "How far did this get?");
  await until("delivered", async () => /Delivered$/.test(await meta.innerText()));
  await agent.open("How far did this get?");
  await until("read", async () => /Read$/.test(await meta.innerText()));
  await agent.box.pressSequentially("Let me");
  await tab.locator(".subtitle", { hasText: "typing" }).waitFor();
  await tab.locator(".box").pressSequentially("Thank");
  await agent.page.locator(".talk-pane .typing").waitFor();
  await agent.box.fill("");
  await agent.write("All the way.");
  await tab.locator(".theirs .bubble", { hasText: "All the way." }).waitFor();
  await until("the agent sees that it was read", async () => /Read/.test(await agent.log.locator(".reached").last().innerText()));
  await context.close();
});

test("an answer to a closed chat is counted, on the bubble and for the host; opening it reads it", async () => {
  const { context, tab, chat } = await person();
  shop.host = "window.heard = []; window.Lodge = { onunread: (n) => heard.push(n), onclose: () => heard.push('closed'), onlink: (url) => heard.push(url) }";
  await tab.goto(`${shop.address}/host`);
  await chat.locator(".bubble-button").click();
  await screen(chat, tab).write("Call me when it is there");
  await settled(chat, "Call me when it is there");
  await chat.getByRole("button", { name: "Close the chat" }).click();
  await tab.waitForFunction(() => heard.includes("closed"));
  await agent.open("Call me when it is there");
  await agent.write("It is: https://shop.example/orders/1");
  await chat.locator(".count", { hasText: "1" }).waitFor();
  await tab.waitForFunction(() => heard.includes(1));
  await tab.evaluate(() => window.Lodge.open());
  await chat.locator(".theirs .bubble a").waitFor();
  await tab.waitForFunction(() => heard.at(-1) === 0);
  await chat.locator(".theirs .bubble a").click();
  await tab.waitForFunction(() => heard.at(-1) === "https://shop.example/orders/1");
  await tab.evaluate(() => window.Lodge.close());
  await chat.locator(".bubble-button").waitFor();
  await context.close();
});

test("a host vouches when it is asked, and the next visitor finds nothing of the one before", async () => {
  const { context, tab, chat } = await person();
  const token = vouch(desk, `host-${Date.now()}`, "Known by the host");
  shop.host = `window.asked = 0; window.token = ${JSON.stringify(token)}; window.Lodge = { identity: async () => (asked++, token) }`;
  await tab.goto(`${shop.address}/host`);
  await chat.locator(".bubble-button").click();
  await screen(chat, tab).write("Do you know me?");
  await settled(chat, "Do you know me?");
  assert.ok(await tab.evaluate(() => asked > 0));
  await agent.page.locator("[data-talk]", { hasText: "Known by the host" }).waitFor();
  await tab.evaluate(() => { token = ""; window.Lodge.forget(); });
  await chat.locator(".bubble-button").click();
  await until("a stranger", async () => (await own(chat)).length === 0);
  await screen(chat, tab).write("A stranger now");
  await settled(chat, "A stranger now");
  assert.deepEqual(await own(chat), ["A stranger now"]);
  await context.close();
});

test("an app hears the chat and speaks to it: identity, unread, close, link, file", async () => {
  const { context, tab } = await person(PHONE);
  const token = vouch(desk, `app-${Date.now()}`, "From the app");
  await context.addInitScript((token) => {
    window.heard = [];
    window.LodgeHost = {
      postMessage(text) {
        const [word, what, ...rest] = JSON.parse(text);
        if (word !== "lodge") throw new Error(text);
        window.heard.push([what, ...rest]);
        if (what === "identity") window.postMessage(["lodge", "identity", token], location.origin);
      },
    };
  }, token);
  await tab.goto(`${full()}#takes=identity,link,file,close&lang=zh`);
  await screen(tab).write("See https://shop.example/a");
  await settled(tab, "See https://shop.example/a");
  await agent.page.locator("[data-talk]", { hasText: "From the app" }).waitFor();
  await tab.locator("input[type=file]").setInputFiles({ name: "list.csv", mimeType: "text/csv", buffer: Buffer.from("a,b\n") });
  await tab.locator(".card:enabled").click();
  await tab.locator(".own .bubble a").click();
  await tab.locator(".head button.round").click();
  const heard = () => tab.evaluate(() => window.heard);
  await until("all words", async () => (await heard()).some(([word]) => word === "file"));
  const words = await heard();
  assert.deepEqual(words.find(([word]) => word === "link"), ["link", "https://shop.example/a"]);
  const [, name, , bytes] = words.find(([word]) => word === "file");
  assert.deepEqual([name, Buffer.from(bytes, "base64").toString()], ["list.csv", "a,b\n"]);
  for (const word of ["ready", "identity", "closed"]) assert.ok(words.some(([one]) => one === word), word);
  assert.equal(tab.url(), full(), "a link left the page");
  assert.equal(await tab.evaluate(() => document.documentElement.lang), "zh");
  await context.close();
});

test("history of several hundred lines pages up without moving what is read", async () => {
  const name = `reader-${Date.now()}`;
  const { context, tab } = await person();
  await tab.goto(full(vouch(desk, name)));
  await chatter(tab, 330, (n) => `line ${n}`);
  await context.close();
  // On a device that holds nothing.
  const other = await person(PHONE);
  await other.tab.goto(full(vouch(desk, name)));
  await other.tab.locator(".bubble", { hasText: "line 330" }).waitFor();
  const lines = async () => (await own(other.tab)).map((text) => Number(text.slice(5)));
  for (let round = 0; (await lines())[0] !== 1; round++) {
    assert.ok(round < 20, `still at ${(await lines())[0]}`);
    const moved = await other.tab.evaluate(async () => {
      const log = document.querySelector(".log");
      log.scrollTop = 200;
      const top = log.getBoundingClientRect().top;
      const line = [...log.querySelectorAll(".message")].find((one) => one.getBoundingClientRect().top > top + 20);
      await new Promise(requestAnimationFrame);
      const before = line.getBoundingClientRect().top;
      const count = log.querySelectorAll(".message").length;
      for (let frame = 0; frame < 300 && log.querySelectorAll(".message").length === count; frame++) await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      return Math.abs(line.getBoundingClientRect().top - before);
    });
    assert.ok(moved <= 2, `moved by ${moved} px`);
  }
  assert.deepEqual(await lines(), Array.from({ length: 330 }, (_, n) => n + 1));
  await other.context.close();
});

test("a page that was frozen in the background catches up when it is looked at again", async () => {
  const { context, tab } = await person();
  await tab.goto(full());
  await screen(tab).write("I look away now");
  await settled(tab, "I look away now");
  const devtools = await context.newCDPSession(tab);
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  await agent.open("I look away now");
  await agent.write("While you were away");
  await agent.log.getByText("While you were away", { exact: true }).waitFor();
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  await tab.locator(".theirs .bubble", { hasText: "While you were away" }).waitFor();
  // As a browser does that keeps a page for the way back.
  await tab.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
  await agent.write("And once more");
  await tab.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
  await tab.locator(".theirs .bubble", { hasText: "And once more" }).waitFor();
  assert.equal(await tab.locator(".theirs .bubble").count(), 2);
  await context.close();
});

test("text of the agent is text too", async () => {
  const { context, tab, errors } = await person();
  await tab.goto(full());
  await screen(tab).write("Say something terrible");
  await settled(tab, "Say something terrible");
  await agent.open("Say something terrible");
  const texts = [
    "<img src=x onerror=alert(1)><svg/onload=alert(1)><script>alert(2)</script>",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} #{7*7} <%= 7*7 %>",
    "[a](javascript:alert(1)) ![b](x) `c` **d** javascript:alert(1) data:text/html,<b>",
    "a\u202Eevil\u202C b \u2066c\u2069",
    "\"'><iframe srcdoc=\"<script>parent.alert(1)</script>\"></iframe>",
    "&lt;b&gt; &amp; &#x3c;",
  ];
  for (const text of texts) await agent.write(text);
  await until("all are shown", async () => (await tab.locator(".theirs .bubble").count()) === texts.length);
  assert.deepEqual(await tab.locator(".theirs .bubble").evaluateAll((all) => all.map((one) => one.textContent)), texts);
  assert.deepEqual(await agent.log.locator(".mine .bubble").evaluateAll((all) => all.map((one) => one.textContent.trim())), texts);
  for (const page of [tab, agent.page]) {
    assert.equal(await page.locator("[role=log] :is(script, iframe, svg:not(.icon), img)").count(), 0);
    assert.equal(await page.locator("[role=log] a").count(), 0);
  }
  assert.deepEqual(errors, []);
  await context.close();
});

test("a screen reader hears the log, the keyboard does it all, and nothing moves for who asked for calm", async () => {
  const { context, tab, chat } = await person({ reducedMotion: "reduce" });
  await tab.goto(`${shop.address}/`);
  await chat.locator(".bubble-button").waitFor();
  assert.equal(await tab.locator("html > iframe").getAttribute("title"), "Chat");
  await chat.locator(".bubble-button").focus();
  await tab.keyboard.press("Enter");
  await chat.locator(".box:focus").waitFor();
  await tab.keyboard.type("By the keyboard alone");
  await tab.keyboard.press("Enter");
  await settled(chat, "By the keyboard alone");
  assert.equal(await chat.getByRole("log", { name: "Messages" }).getAttribute("aria-live"), "polite");
  assert.match(await chat.getByRole("log").innerText(), /You:\s*By the keyboard alone/);
  for (const button of ["Send", "Attach a file", "Close the chat"]) await chat.getByRole("button", { name: button }).waitFor();
  await chat.getByRole("textbox", { name: "Write a message…" }).waitFor();
  const moving = await tab.frames()[1].evaluate(() => document.getAnimations().length);
  assert.equal(moving, 0);
  await tab.keyboard.press("Escape");
  await chat.locator(".bubble-button:focus").waitFor();
  await context.close();
});

test("words are those of the page, then of the browser, and every word is there in both", async () => {
  const chinese = await person({ locale: "zh-CN" });
  await chinese.tab.goto(full());
  assert.equal(await chinese.tab.evaluate(() => document.documentElement.lang), "zh");
  const french = await person({ locale: "fr-FR" });
  shop.lang = "zh-CN";
  await french.tab.goto(`${shop.address}/`);
  await french.chat.locator('[aria-label="打开聊天"], .bubble-button').first().waitFor();
  assert.equal(await french.tab.frames()[1].evaluate(() => document.documentElement.lang), "zh");
  shop.lang = "en";
  await chinese.context.close();
  await french.context.close();
});

test("on a phone nothing is wider than the screen, and what one touches is large enough", async () => {
  const { context, tab } = await person(PHONE);
  await tab.goto(full());
  await screen(tab).write("x".repeat(400));
  await tab.locator("input[type=file]").setInputFiles({ name: `${"a_very_long_name_".repeat(8)}.pdf`, mimeType: "application/pdf", buffer: Buffer.from("%PDF-1.4\n") });
  await tab.locator(".card:enabled").waitFor();
  const found = await tab.evaluate(() => ({
    wide: document.documentElement.scrollWidth - innerWidth,
    log: document.querySelector(".log").scrollWidth - document.querySelector(".log").clientWidth,
    small: [...document.querySelectorAll("button, textarea")].filter((one) => one.offsetParent && (one.offsetHeight < 40 || one.offsetWidth < 40)).map((one) => one.className),
  }));
  assert.deepEqual(found, { wide: 0, log: 0, small: [] });
  // The keyboard takes half the screen: the box stays in sight, and so does what was said last.
  await tab.setViewportSize({ width: 390, height: 430 });
  await tab.waitForFunction(() => {
    const said = [...document.querySelectorAll(".own .meta")].at(-1).getBoundingClientRect();
    const composer = document.querySelector(".composer").getBoundingClientRect();
    return innerHeight === 430 && said.bottom <= composer.top + 1 && document.querySelector(".box").getBoundingClientRect().bottom <= 430;
  });
  await context.close();
});
