// Drives the built bundle in a browser, under the server's policy: what an agent must be able to rely on.
import assert from "node:assert/strict";
import { browser, house, signIn } from "./house.mjs";

const chrome = await browser();
let passed = 0;
let failed = 0;

async function check(name, run, options = {}) {
  const at = await house(options);
  const context = await chrome.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", ...options.browser });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error" && /Content Security Policy|Uncaught/.test(message.text())) complaints.push(message.text()); });
  const open = async (key) => {
    await page.goto(`${at.address}/console/#/c/${at.talk(key).id}`);
    await page.locator(".said").first().waitFor();
  };
  try {
    await run({ at, page, context, open });
    assert.deepEqual(complaints, []);
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n      ${String(error.stack ?? error).split("\n").slice(0, 6).join("\n      ")}`);
  }
  await context.close();
  at.close();
}

const spoken = (at, key) => at.talk(key).spoken.filter((one) => one.body.kind === "text").map((one) => one.body.text);
async function until(holds, what) {
  for (let turn = 0; turn < 400; turn++) {
    if (await holds()) return;
    await new Promise((again) => setTimeout(again, 25));
  }
  assert.fail(`never came true: ${what}`);
}
const write = async (page, text) => {
  await page.locator("textarea").fill(text);
  await page.locator("textarea").press("Enter");
};

await check("a wrong password is refused, a right one lets in, and text stays text", async ({ at, page, open }) => {
  await page.goto(`${at.address}/console/`);
  await page.locator('input[autocomplete="username"]').fill(at.login());
  await page.locator('input[type="password"]').fill("wrong");
  await page.locator("form button.firm").click();
  await page.locator('[role="alert"]').getByText("do not fit").waitFor();
  await page.locator('input[type="password"]').fill(at.password);
  await page.locator("form button.firm").click();
  await page.locator(".list-pane").waitFor();
  await open("eva");
  at.says("eva", "<img src=x onerror=alert(1)> https://example.org/a?b=1.");
  await page.getByText("<img src=x onerror=alert(1)>").last().waitFor();
  assert.equal(await page.locator('.said a[href="https://example.org/a?b=1"]').count(), 1);
});

await check("what is sent is there once, in order, over a lost connection", async ({ at, page, context, open }) => {
  await signIn(page, at);
  await open("eva");
  const before = spoken(at, "eva").length;
  await write(page, "one");
  await until(() => spoken(at, "eva").length === before + 1, "the first arrives");
  await context.setOffline(true);
  at.cut();
  await write(page, "two");
  await write(page, "three");
  at.says("eva", "meanwhile");
  await page.getByText("2 messages leave").waitFor();
  await context.setOffline(false);
  await until(() => spoken(at, "eva").length === before + 4, "all arrive");
  assert.deepEqual(spoken(at, "eva").slice(before), ["one", "meanwhile", "two", "three"]);
  await until(async () => (await page.locator(".said .bubble").allInnerTexts()).slice(-4).join() === "one,meanwhile,two,three", "the screen agrees");
  await page.locator(".link-bar p").waitFor({ state: "detached" });
});

await check("an input method's Enter does not send; Shift and Enter makes a line; drafts stay", async ({ at, page, open }) => {
  await signIn(page, at);
  await open("eva");
  const before = spoken(at, "eva").length;
  const field = page.locator("textarea");
  await field.fill("ni hao");
  await field.evaluate((node) => node.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true })));
  await field.press("Shift+Enter");
  assert.equal(await field.inputValue(), "ni hao\n");
  await open("jonas");
  await open("eva");
  assert.equal(await field.inputValue(), "ni hao\n");
  await page.reload();
  await page.locator(".said").first().waitFor();
  assert.equal(await field.inputValue(), "ni hao\n");
  assert.equal(spoken(at, "eva").length, before);
});

await check("a refused message says why, can be discarded, and blocks nothing", async ({ at, page, open }) => {
  await signIn(page, at);
  await open("eva");
  await write(page, "/refuse");
  await page.getByText("Not sent · You may not do this.").waitFor();
  await write(page, "after it");
  await until(() => spoken(at, "eva").includes("after it"), "the next arrives");
  await page.getByRole("button", { name: "Discard" }).click();
  assert.equal(await page.getByText("Not sent").count(), 0);
});

await check("a new message is counted, shown in the title, and read once looked at", async ({ at, page, open }) => {
  await signIn(page, at);
  await open("jonas");
  at.says("eva", "are you there?");
  const row = page.locator(`[data-talk="${at.talk("eva").id}"]`);
  await row.getByText("are you there?").waitFor();
  assert.match(await page.title(), /^\(\d+\) Lodge$/);
  assert.equal(await row.locator(".badge").innerText(), "1");
  await row.click();
  await page.locator(".seam").waitFor();
  await row.locator(".badge").waitFor({ state: "detached" });
  const me = [...at.talk("eva").marks.keys()][0];
  await until(() => at.talk("eva").marks.get(me).read === at.talk("eva").spoken.length, "the mark arrives");
});

await check("history pages upwards and what is read stays where it is", async ({ at, page, open }) => {
  await signIn(page, at);
  await open("anna");
  const log = page.locator(".log");
  await until(async () => (await page.locator(".said").count()) > 20, "the first page");
  for (let round = 0; round < 3; round++) {
    const count = await page.locator(".said").count();
    // Reads at the very top of what is loaded, and watches one message while older ones come in above it.
    const moved = await log.evaluate(async (box) => {
      box.scrollTop = 120;
      const line = [...box.querySelectorAll(".said")].find((one) => one.getBoundingClientRect().top > box.getBoundingClientRect().top + 40);
      const top = line.getBoundingClientRect().top;
      const held = box.querySelectorAll(".said").length;
      for (let frame = 0; frame < 600 && box.querySelectorAll(".said").length === held; frame++) await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      return Math.abs(line.getBoundingClientRect().top - top);
    });
    assert.ok(moved <= 2, `moved by ${moved} px`);
    assert.ok((await page.locator(".said").count()) > count);
  }
}, { long: 260 });

await check("a picture is pasted, uploaded, sent with its words, and opens large", async ({ at, page, open }) => {
  await signIn(page, at);
  await open("eva");
  await page.locator("textarea").evaluate(async (field) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 400, height: 300 });
    canvas.getContext("2d").fillRect(0, 0, 400, 300);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    const carried = new DataTransfer();
    carried.items.add(new File([blob], "black.png", { type: "image/png" }));
    field.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true }));
  });
  await page.locator(".composer li img").waitFor();
  await write(page, "as you asked");
  await until(() => at.talk("eva").spoken.at(-1).body.kind === "file", "the file arrives");
  assert.equal(at.talk("eva").spoken.at(-1).body.caption, "as you asked");
  const picture = page.locator("button.picture").last();
  const shown = (from) => picture.locator("img").evaluate((image, address) => image.complete && image.naturalWidth === 400 && image.src.includes(address), from);
  await until(() => shown("blob:"), "our own is shown from memory");
  await page.reload();
  await picture.waitFor();
  await until(() => shown("/files/"), "the server's copy is shown");
  await picture.click();
  await page.locator("dialog[open] img").waitFor();
  await page.keyboard.press("Escape");
  await until(async () => (await page.locator("dialog").count()) === 0, "Escape closes it");
});

await check("the keyboard does it all", async ({ at, page }) => {
  await signIn(page, at);
  await page.locator("[data-talk]").nth(2).waitFor();
  await page.keyboard.press("j");
  await page.locator(".talk-pane").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.locator("[data-talk]").nth(1).and(page.locator('[aria-current="page"]')).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.locator("dialog[open] kbd").first().waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  await page.keyboard.type("eva");
  await until(async () => (await page.locator("[data-talk]").count()) === 1, "the list is filtered");
  await page.keyboard.press("Escape");
  await page.keyboard.press("e");
  await page.locator("dialog[open]").getByRole("button", { name: "Close conversation" }).click();
  await until(() => at.talk("jonas").state === "closed", "the conversation is closed");
  await page.keyboard.press("4");
  await page.locator('[role="tab"][aria-selected="true"]').getByText("Closed").waitFor();
});

await check("first run takes the token from the address, hides it, and shows the secrets once", async ({ at, page }) => {
  await page.goto(`${at.address}/setup#one-time-token`);
  await page.locator("form").waitFor();
  assert.equal(new URL(page.url()).hash, "");
  const fields = page.locator("form input");
  for (const [n, text] of ["Clara Weber", "clara", "a long enough sentence", "Harbour Clinic"].entries()) await fields.nth(n).fill(text);
  await page.locator("form button.firm").click();
  await page.getByText("IdentitySecret").first().waitFor();
  await page.getByRole("checkbox").check();
  await page.getByRole("button", { name: "To the desk" }).click();
  await page.locator(".list-pane").waitFor();
}, { fresh: true });

await check("on a phone one pane at a time, and back", async ({ at, page }) => {
  await signIn(page, at);
  await page.locator("[data-talk]").first().click();
  await page.locator(".talk-pane").waitFor();
  assert.equal(await page.locator(".list-pane").isVisible(), false);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  await page.locator("a.back").first().click();
  await page.locator(".list-pane").waitFor();
  assert.equal(await page.locator(".talk-pane").count(), 0);
}, { browser: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true } });

await chrome.close();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
