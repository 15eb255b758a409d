// Takes the pictures that the console is judged by: both languages, both themes, desk and phone.
// `npm run look -- FOLDER [FILTER]`
import { mkdirSync } from "node:fs";
import { browser, house, signIn } from "./house.mjs";

const [folder = "pictures", filter = ""] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const chrome = await browser();
const DESK = { width: 1440, height: 900 }, LAPTOP = { width: 1100, height: 720 }, PHONE = { width: 390, height: 844 };

for (const language of ["en", "zh"]) for (const theme of ["light", "dark"]) {
  const at = await house({ language });
  const shoot = async (name, size, go, first = true) => {
    const full = `${name}-${language}-${theme}`;
    if (!full.includes(filter)) return;
    const context = await chrome.newContext({ viewport: size, colorScheme: theme, locale: language === "zh" ? "zh-CN" : "en-GB", deviceScaleFactor: size === PHONE ? 2 : 1, hasTouch: size === PHONE, isMobile: size === PHONE });
    const page = await context.newPage();
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && !/401/.test(message.text()) && console.log(full, message.text()));
    page.on("pageerror", (error) => console.log(full, String(error)));
    if (first) await signIn(page, at);
    await go(page);
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${folder}/${full}.png` });
    await context.close();
  };
  const open = async (page, key) => { await page.goto(`${at.address}/console/#/c/${at.talk(key).id}`); await page.locator(".said").first().waitFor(); };
  await shoot("list", DESK, (page) => page.locator("[data-talk]").first().waitFor());
  await shoot("unassigned", DESK, async (page) => { await page.keyboard.press("2"); await open(page, "anon1"); });
  await shoot("open", DESK, async (page) => { await open(page, "george"); await page.keyboard.press("Escape"); await page.keyboard.press("3"); });
  await shoot("closed", DESK, async (page) => { await open(page, "old1"); await page.keyboard.press("Escape"); await page.keyboard.press("4"); });
  await shoot("desk", DESK, async (page) => { await open(page, "anna"); at.types("anna"); });
  await shoot("shop", DESK, (page) => open(page, "jonas"));
  await shoot("laptop", LAPTOP, (page) => open(page, "jonas"));
  await shoot("phone-list", PHONE, (page) => page.locator("[data-talk]").first().waitFor());
  await shoot("phone-talk", PHONE, (page) => open(page, "anna"));
  await shoot("phone-visitor", PHONE, async (page) => { await open(page, "anna"); await page.locator('[aria-pressed="false"].tool').click(); });
  await shoot("keys", DESK, async (page) => { await open(page, "eva"); await page.keyboard.press("Escape"); await page.keyboard.press("?"); });
  await shoot("end", DESK, async (page) => { await open(page, "eva"); await page.locator(".talk-pane header .button").click(); });
  await shoot("people-online", DESK, async (page) => { await page.locator(".list-pane footer button.tool").first().click(); });
  await shoot("prefs", DESK, (page) => page.goto(`${at.address}/console/#/settings/prefs`));
  await shoot("people", DESK, (page) => page.goto(`${at.address}/console/#/settings/people`));
  await shoot("sites", DESK, (page) => page.goto(`${at.address}/console/#/settings/sites`));
  await shoot("site", { width: 1440, height: 1800 }, (page) => page.goto(`${at.address}/console/#/settings/sites/clinic7f3k`));
  await shoot("phone-site", PHONE, (page) => page.goto(`${at.address}/console/#/settings/sites/clinic7f3k`));
  await shoot("lightbox", DESK, async (page) => { await open(page, "jonas"); await page.locator("button.picture").click(); });
  await shoot("failed", DESK, async (page) => {
    await open(page, "eva");
    await page.locator("textarea").fill("/refuse");
    await page.keyboard.press("Enter");
    await page.locator('[role="alert"]').waitFor();
    await page.locator('input[type="file"]').setInputFiles({ name: "report.pdf", mimeType: "application/pdf", buffer: Buffer.alloc(90_000) });
  });
  await shoot("lost", DESK, async (page) => {
    await open(page, "eva");
    await page.context().setOffline(true);
    at.cut();
    await page.waitForTimeout(1900);
  });
  await shoot("door", DESK, async (page) => { await page.goto(`${at.address}/console/`); }, false);
  const fresh = await house({ language, fresh: true });
  await shoot("setup", { width: 1000, height: 1250 }, async (page) => { await page.goto(`${fresh.address}/setup#one-time-token`); await page.locator("form").waitFor(); }, false);
  await shoot("setup-done", { width: 1000, height: 1250 }, async (page) => {
    await page.goto(`${fresh.address}/setup#one-time-token`);
    const fields = page.locator("form input");
    await fields.nth(0).fill("Clara Weber");
    await fields.nth(1).fill("clara");
    await fields.nth(2).fill("a long enough sentence");
    await fields.nth(3).fill("Harbour Clinic");
    await page.locator("form button.firm").click();
    await page.locator(".secrets").waitFor();
  }, false);
  fresh.close();
  at.close();
}
await chrome.close();
