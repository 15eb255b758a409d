/**
 * Looks at the chat in Chromium against the mock desk, and keeps pictures of what it saw in `shots/`.
 * Start the desk first: `npm run desk` in proto/sdk/typescript.
 */
import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const desk = process.argv[2] ?? "http://127.0.0.1:8444";
const shots = fileURLToPath(new URL("../shots/", import.meta.url));
mkdirSync(shots, { recursive: true });

/** A shop's page under a strict policy, and one that fights what it carries. */
const page = (hostile) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title><meta name=viewport content='width=device-width'>
${hostile ? "<script>JSON.parse=JSON.stringify=()=>'no';window.fetch=()=>{throw 1};Array.prototype.map=Array.prototype.push=()=>{throw 1};Object.prototype.kind='bad';Object.prototype[0]='lodge'</script><style>body *,iframe{color:red!important;opacity:.2!important;transform:rotate(9deg)!important}body{transform:translateX(40px);overflow:hidden}</style>" : ""}
<style>body{font:16px/1.6 Georgia,serif;margin:8vh auto;max-width:44rem;color:#333;padding:0 24px}h1{font-size:2.4rem}</style>
<h1>Boots for long winters</h1><p>${"Hand-welted, resoleable, and made to be kept for decades rather than seasons. ".repeat(14)}</p>
<script src="${desk}/widget.js" data-app="DEMO" async></script>`;
const shop = createServer((request, response) => {
  const hostile = request.url === "/hostile";
  const policy = hostile ? {} : { "Content-Security-Policy": `default-src 'none'; script-src ${desk}; frame-src ${desk}; style-src 'unsafe-inline'` };
  response.writeHead(200, { "Content-Type": "text/html", ...policy });
  response.end(page(hostile));
});
await new Promise((resolve) => shop.listen(0, "127.0.0.1", resolve));
const host = `http://127.0.0.1:${shop.address().port}`;

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split(" "),
});
const PNG = Buffer.from(
  await (async () => {
    const tab = await browser.newPage({ viewport: { width: 640, height: 420 } });
    await tab.setContent("<body style='margin:0;background:linear-gradient(135deg,#f6d365,#fda085 50%,#5b86e5)'>");
    const bytes = await tab.screenshot();
    await tab.close();
    return bytes;
  })(),
);

async function talk(chat, lines) {
  for (const line of lines) {
    await chat.locator(".box").fill(line);
    await chat.locator(".box").press("Enter");
    await chat.waitForTimeout?.(150);
  }
}

async function look(name, { lines, ...options }) {
  const context = await browser.newContext({ deviceScaleFactor: 2, ...options });
  const tab = await context.newPage();
  const problems = [];
  tab.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  tab.on("pageerror", (error) => problems.push(String(error)));
  await tab.goto(`${desk}/chat/DEMO`);
  await tab.locator(".greeting").waitFor();
  await tab.waitForTimeout(400);
  await tab.screenshot({ path: `${shots}${name}-empty.png` });
  await talk(tab, lines);
  await tab.locator("input[type=file]").setInputFiles([
    { name: "broken-seam.png", mimeType: "image/png", buffer: PNG },
    { name: "invoice-2026-11.pdf", mimeType: "application/pdf", buffer: Buffer.alloc(48_213) },
  ]);
  await tab.locator(".theirs .bubble").last().waitFor({ timeout: 15_000 });
  await tab.waitForTimeout(4_500);
  await tab.screenshot({ path: `${shots}${name}-talk.png` });
  if (problems.length) console.log(name, problems);
  await context.close();
}

async function embed(path, name, options) {
  const context = await browser.newContext({ deviceScaleFactor: 2, ...options });
  const tab = await context.newPage();
  const problems = [];
  tab.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  tab.on("pageerror", (error) => problems.push(String(error)));
  await tab.goto(host + path);
  const chat = tab.frameLocator("iframe");
  await chat.locator(".bubble-button").waitFor();
  await tab.waitForTimeout(500);
  await tab.screenshot({ path: `${shots}${name}-bubble.png` });
  await chat.locator(".bubble-button").click();
  await talk({ locator: (what) => chat.locator(what), waitForTimeout: (ms) => tab.waitForTimeout(ms) }, ["Do you ship to Norway?", "And how long does it take? 🙂"]);
  await chat.locator(".theirs .bubble").first().waitFor({ timeout: 15_000 });
  await tab.waitForTimeout(400);
  await tab.screenshot({ path: `${shots}${name}-open.png` });
  await chat.locator(".head .round").click();
  await talk({ locator: () => ({ fill: async () => {}, press: async () => {} }) }, []);
  await tab.waitForTimeout(4_000);
  await tab.screenshot({ path: `${shots}${name}-closed.png` });
  if (problems.length) console.log(name, problems);
  await context.close();
}

const EN = ["Hi! My boots arrived yesterday, but the left one has a seam that is coming apart.", "Can I send them back? Here is a picture, and the invoice: https://shop.example/orders/8841 (paid in full)."];
const ZH = ["您好！昨天收到的靴子，左脚的缝线开了。", "可以退换吗？我拍了照片，发票也在这里：https://shop.example/orders/8841。"];
const phone = { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true };
const desktop = { viewport: { width: 1180, height: 760 } };
const only = process.argv[3];
const all = {
  "phone-light-en": () => look("phone-light-en", { ...phone, locale: "en-GB", lines: EN }),
  "phone-dark-zh": () => look("phone-dark-zh", { ...phone, locale: "zh-CN", colorScheme: "dark", lines: ZH }),
  "desktop-light-zh": () => look("desktop-light-zh", { ...desktop, locale: "zh-CN", lines: ZH }),
  "desktop-dark-en": () => look("desktop-dark-en", { ...desktop, locale: "en-GB", colorScheme: "dark", lines: EN }),
  embedded: () => embed("/", "embedded", { ...desktop, locale: "en-GB" }),
  "embedded-dark": () => embed("/", "embedded-dark", { ...desktop, locale: "en-GB", colorScheme: "dark" }),
  "embedded-phone": () => embed("/", "embedded-phone", { ...phone, locale: "en-GB" }),
  hostile: () => embed("/hostile", "hostile", { ...desktop, locale: "en-GB" }),
};
for (const name of Object.keys(all)) if (!only || name === only) await all[name]();
await browser.close();
shop.close();
