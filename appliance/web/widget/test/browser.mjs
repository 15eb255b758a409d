/**
 * The widget in a real browser against the mock desk: what it promises to pages, to visitors and to their
 * disks. `node test/browser.mjs` builds nothing; run the builds of the client's tests and of the bundle first.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const DESK = fileURLToPath(new URL("../../../../proto/sdk/typescript/build/test/mock-desk.js", import.meta.url));
const ARGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
let browser, desk, deskUrl, pages, pageUrl;

const HOSTILE = `<script>JSON.parse=JSON.stringify=()=>'no';window.fetch=()=>{throw 1};
for(const name of Object.getOwnPropertyNames(Array.prototype))if(name!=='constructor'&&name!=='length')try{Array.prototype[name]=()=>{throw 1}}catch{}
Object.prototype[0]='lodge';Object.prototype[1]='forget';Object.prototype.kind='bad'</script>
<style>body *,iframe{display:none!important;opacity:0!important;width:1px!important}body{transform:scale(.1)}</style>`;

before(async () => {
  desk = spawn(process.execPath, [DESK, "0"], { stdio: ["ignore", "pipe", "inherit"] });
  deskUrl = await new Promise((resolve) => desk.stdout.on("data", (line) => resolve(new URL(String(line).trim()).origin)));
  pages = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    const strict = pathname === "/strict";
    const policy = strict ? { "Content-Security-Policy": `default-src 'none'; script-src ${deskUrl}; frame-src ${deskUrl}` } : {};
    response.writeHead(200, { "Content-Type": "text/html", ...policy });
    const host = pathname === "/host" ? "<script>window.heard=[];window.Lodge={identity:async()=>'alice',onunread:n=>heard.push(n),onlink:u=>heard.push(u)}</script>" : "";
    response.end(`<!doctype html><html lang="en"><title>Shop</title>${pathname === "/hostile" ? HOSTILE : ""}${host}<p>Shop</p>
      <script src="${deskUrl}/widget.js" data-app="DEMO" async></script>`);
  });
  await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
  pageUrl = `http://127.0.0.1:${pages.address().port}`;
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ARGS.split(" ") });
});

after(async () => {
  await browser?.close();
  pages?.close();
  desk?.kill();
});

/** A browser of its own, with what went wrong in it. */
async function person(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, locale: "en-GB", ...options });
  const tab = await context.newPage();
  const errors = [];
  const sockets = [];
  tab.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  tab.on("pageerror", (error) => errors.push(String(error)));
  tab.on("websocket", (socket) => sockets.push(socket.url()));
  return { context, tab, errors, sockets, chat: tab.frameLocator("html > iframe") };
}

async function write(chat, text) {
  await chat.locator(".box").fill(text);
  await chat.locator(".box").press("Enter");
}

const said = (chat) => chat.locator(".bubble").allInnerTexts();

for (const kind of ["strict", "hostile"]) {
  test(`a visitor writes and is answered on a ${kind} page`, async () => {
    const { context, tab, chat, errors } = await person();
    await tab.goto(`${pageUrl}/${kind}`);
    await chat.locator(".bubble-button").click();
    await write(chat, "Do you ship to Norway?");
    await chat.locator(".theirs .bubble").first().waitFor();
    const frame = await tab.locator("iframe").boundingBox();
    assert.ok(frame.width === 400 && frame.height > 600, JSON.stringify(frame));
    assert.equal(await chat.locator(".own .bubble").innerText(), "Do you ship to Norway?");
    assert.deepEqual(errors, []);
    await context.close();
  });
}

test("nothing is stored and nothing connects before the visitor opens the chat", async () => {
  const { context, tab, chat, sockets } = await person();
  const asked = [];
  tab.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await tab.goto(`${pageUrl}/`);
  await chat.locator(".bubble-button").waitFor();
  const [, frame] = tab.frames();
  const stored = await frame.evaluate(async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length, document.cookie]);
  assert.deepEqual(stored, [0, 0, 0, ""]);
  assert.deepEqual(sockets, []);
  assert.ok(!asked.includes("/api/v1/visitor/token"), asked.join());
  await chat.locator(".bubble-button").click();
  await chat.locator(".portrait").waitFor();
  await tab.waitForEvent("websocket", { predicate: () => true, timeout: 5_000 }).catch(() => {});
  assert.equal(sockets.length, 1);
  await context.close();
});

test("an answer that comes while the chat is closed is counted, in the bubble and for the host", async () => {
  const { context, tab, chat } = await person();
  await tab.goto(`${pageUrl}/host`);
  await chat.locator(".bubble-button").click();
  await write(chat, "hello");
  await chat.locator(".own .meta").first().waitFor();
  await chat.locator(".head .round").click();
  await chat.locator(".count:not([hidden])").waitFor();
  assert.equal(await chat.locator(".count").innerText(), "1");
  assert.equal((await tab.evaluate(() => window.heard)).at(-1), 1);
  // After a reload the conversation goes on by itself, with its count.
  await tab.reload();
  await chat.locator(".count:not([hidden])").waitFor();
  await chat.locator(".bubble-button").click();
  await chat.locator(".theirs .bubble").waitFor();
  await tab.waitForFunction(() => window.heard.at(-1) === 0);
  await chat.locator(".theirs .bubble a").click();
  await tab.waitForFunction(() => String(window.heard.at(-1)).startsWith("https://example.org/"));
  await context.close();
});

test("what is written offline is shown, kept over a reload, and sent when the network is back", async () => {
  const { context, tab } = await person();
  await tab.goto(`${deskUrl}/chat/DEMO`);
  await write(tab, "first");
  await tab.locator(".theirs .bubble").waitFor();
  await context.setOffline(true);
  await tab.evaluate(() => fetch("/demo/restart").catch(() => {}));
  await write(tab, "written offline");
  await tab.locator(".waiting .bubble", { hasText: "written offline" }).waitFor();
  await fetch(`${deskUrl}/demo/restart`);
  await context.setOffline(false);
  await tab.reload();
  await tab.locator(".own:not(.waiting) .bubble", { hasText: "written offline" }).waitFor();
  const own = await tab.locator(".own .bubble").allInnerTexts();
  assert.deepEqual(own, ["first", "written offline"]);
  await context.close();
});

test("text is text, whatever is in it", async () => {
  const { context, tab, errors } = await person();
  await tab.goto(`${deskUrl}/chat/DEMO`);
  const texts = [
    "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "{{7*7}} ${7*7} =cmd|' /C calc'!A0 **bold** [a](javascript:alert(1))",
    "a\u202Eevil\u202C b \u0000\u001b[31mred",
    "👩‍👩‍👧‍👦 🏳️‍🌈 \u{E0041}\u{E0042}",
    "e" + "\u0301".repeat(2_000),
    "javascript:alert(1) data:text/html,x file:///etc/passwd //evil.example ftp://x",
    "x".repeat(3_000),
  ];
  for (const text of texts) await write(tab, text);
  await tab.waitForFunction((count) => document.querySelectorAll(".own:not(.waiting) .bubble").length === count, texts.length);
  const shown = await tab.locator(".own .bubble").evaluateAll((all) => all.map((one) => one.textContent));
  // A textarea turns no other character than line ends; NUL is the one that it may replace.
  assert.deepEqual(shown.map((text) => text.replace(/\ufffd/g, "\0")), texts);
  assert.equal(await tab.locator(".log script, .log iframe, .log :not(.frame) > img").count(), 0);
  assert.equal(await tab.locator(".own .bubble a").count(), 0);
  const wide = await tab.evaluate(() => document.documentElement.scrollWidth > innerWidth || document.querySelector(".log").scrollWidth > document.querySelector(".log").clientWidth);
  assert.equal(wide, false);
  assert.deepEqual(errors, []);
  await context.close();
});

test("only whole web addresses become links, and they keep their opener out", async () => {
  const { context, tab } = await person();
  await tab.goto(`${deskUrl}/chat/DEMO`);
  await write(tab, "See https://a.example/x_(y)?q=1, (http://b.example/), 请看https://c.example/路径。谢谢 https://");
  const links = tab.locator(".own .bubble a");
  await links.first().waitFor();
  assert.deepEqual(await links.allInnerTexts(), ["https://a.example/x_(y)?q=1", "http://b.example/", "https://c.example/路径"]);
  for (const rel of await links.evaluateAll((all) => all.map((one) => one.rel))) assert.match(rel, /noopener/);
  await context.close();
});

test("messages from other windows and other shapes are not heard", async () => {
  const { context, tab, chat } = await person();
  await tab.goto(`${pageUrl}/`);
  await chat.locator(".bubble-button").click();
  await write(chat, "hello");
  await chat.locator(".theirs .bubble").waitFor();
  // From a stranger's frame in the same page, to the chat and to the loader.
  await tab.evaluate(async (deskUrl) => {
    const stranger = document.createElement("iframe");
    stranger.srcdoc = "<p>stranger</p>";
    document.body.append(stranger);
    await new Promise((resolve) => (stranger.onload = resolve));
    const script = stranger.contentDocument.createElement("script");
    script.textContent = `for (const shape of [["lodge","forget"],["lodge","close"],["lodge","shape","bubble","left"]]) {
      parent.frames[0]?.postMessage(shape, "*"); parent.frames[1]?.postMessage(shape, "*"); parent.postMessage(shape, "*"); }`;
    stranger.contentDocument.body.append(script);
    const frame = document.querySelector("html > iframe").contentWindow;
    for (const shape of ["forget", null, 7, { 0: "lodge", 1: "forget", length: 2 }, ["lodge"], ["lodge", { toString: null }], ["lodge", "__proto__"], ["lodge", "identity", {}], ["other", "forget"]]) {
      frame.postMessage(shape, deskUrl);
    }
  }, deskUrl);
  await write(chat, "still here");
  await chat.locator(".own .bubble", { hasText: "still here" }).waitFor();
  assert.equal((await said(chat)).includes("hello"), true);
  assert.equal((await tab.locator("html > iframe").boundingBox()).width, 400);
  await context.close();
});

test("a host's identity comes by the address, is stripped from it, and opens the same history elsewhere", async () => {
  const name = `bob-${Math.random()}`;
  const { context, tab } = await person();
  await tab.goto(`${deskUrl}/chat/DEMO#identity=${name}`);
  await write(tab, "from the phone");
  await tab.locator(".own:not(.waiting) .bubble").waitFor();
  assert.equal(new URL(tab.url()).hash, "");
  const other = await person();
  await other.tab.goto(`${deskUrl}/chat/DEMO#identity=${name}`);
  await other.tab.locator(".own .bubble", { hasText: "from the phone" }).waitFor();
  await context.close();
  await other.context.close();
});

test("storage that is forbidden ends with the page and with nothing worse", async () => {
  const { context, tab, errors } = await person();
  await context.addInitScript(() => {
    const no = () => {
      throw new DOMException("no", "SecurityError");
    };
    Object.defineProperty(window, "indexedDB", { get: no });
    Object.defineProperty(window, "localStorage", { get: no });
  });
  await tab.goto(`${deskUrl}/chat/DEMO`);
  await write(tab, "hello");
  await tab.locator(".theirs .bubble").waitFor();
  assert.deepEqual(errors, []);
  await context.close();
});

test("older lines come in above without moving what is read, and files arrive whole", async () => {
  const { context, tab } = await person();
  await tab.goto(`${deskUrl}/chat/DEMO#identity=reader-${Math.random()}`);
  await write(tab, "hello");
  await tab.locator(".theirs .bubble").waitFor();
  await fetch(`${deskUrl}/demo/fill?count=300`);
  await tab.locator(".bubble", { hasText: "line 300" }).waitFor();
  // A device that holds nothing gets the end, and asks for the rest as it is read.
  const stored = await tab.evaluate(async () => {
    for (const { name } of await indexedDB.databases()) {
      const open = indexedDB.open(name);
      const database = await new Promise((resolve) => (open.onsuccess = () => resolve(open.result)));
      const transaction = database.transaction("entries", "readwrite");
      const all = await new Promise((resolve) => {
        const request = transaction.objectStore("entries").getAllKeys();
        request.onsuccess = () => resolve(request.result);
      });
      for (const key of all.slice(0, -30)) transaction.objectStore("entries").delete(key);
      await new Promise((resolve) => (transaction.oncomplete = resolve));
      database.close();
    }
    return true;
  });
  assert.ok(stored);
  await tab.reload();
  await tab.locator(".bubble", { hasText: "line 300" }).waitFor();
  await tab.locator(".portrait.on").waitFor();
  const before = await tab.locator(".message").count();
  // Scrolled and measured in one turn of the page: what is asked for then cannot come in between.
  const place = (scroll = false) =>
    tab.evaluate((scroll) => {
      const log = document.querySelector(".log");
      if (scroll) log.scrollTop = 230;
      const line = [...document.querySelectorAll(".bubble")].find((one) => one.textContent === "line 275");
      // Within the log: the page around it may still be sliding in.
      return line && line.getBoundingClientRect().top - log.getBoundingClientRect().top;
    }, scroll);
  const top = await place(true);
  await tab.waitForFunction((count) => document.querySelectorAll(".message").length > count, before);
  assert.ok(Math.abs((await place()) - top) <= 2, `${top} moved to ${await place()}`);
  for (let round = 0; round < 40; round += 1) {
    await tab.evaluate(() => (document.querySelector(".log").scrollTop = 0));
    if ((await tab.locator(".bubble", { hasText: /^line 1$/ }).count()) === 1) break;
    await tab.waitForFunction(() => !document.querySelector(".paging"));
  }
  const lines = (await said(tab)).filter((text) => text.startsWith("line "));
  assert.deepEqual(lines, Array.from({ length: 300 }, (_, index) => `line ${index + 1}`));
  const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7919) % 251));
  await tab.locator("input[type=file]").setInputFiles({ name: "list.bin", mimeType: "application/octet-stream", buffer: bytes });
  await tab.locator(".card:enabled").waitFor();
  const [download] = await Promise.all([tab.waitForEvent("download"), tab.locator(".card").click()]);
  const chunks = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk);
  assert.ok(Buffer.concat(chunks).equals(bytes));
  await context.close();
});
