// Pictures of everything that people see, by the real server and the built bundle: `node screens.mjs FOLDER
// [PART OF A NAME …]`, with LODGE_BINARY and LODGE_SCRATCH set as for the tests. Nothing is compared
// here: they are looked at. Emoji need fonts-noto-color-emoji.
import { mkdirSync } from "node:fs";
import { Agent, Visitor, launch } from "./browser.mjs";
import { Cable, Lodge, until } from "./lodge.mjs";
import { Office, Shop, chatter, vouch } from "./stage.mjs";

const [folder = "screens", ...filters] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

const DESKTOP = { viewport: { width: 1440, height: 900 } };
const LAPTOP = { viewport: { width: 1100, height: 720 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
/** What a keyboard leaves of a phone. */
const KEYBOARD = { ...PHONE, viewport: { width: 390, height: 470 } };
const LOCALE = { en: "en-GB", zh: "zh-CN" };

const browser = await launch();
const lodge = await Lodge.start("screens");
const shop = await Shop.open();
const cable = await Cable.lay(lodge.port);

/** A picture that looks like one: drawn by the browser, in `type`. */
async function drawn(name, width, height, style) {
  const page = await browser.newPage({ viewport: { width, height } });
  await page.setContent(`<body style="margin:0;height:100vh;${style}">`);
  const jpeg = name.endsWith(".jpg");
  const buffer = await page.screenshot(jpeg ? { type: "jpeg", quality: 80 } : {});
  await page.close();
  return { name, mimeType: jpeg ? "image/jpeg" : "image/png", buffer };
}

const SKY = "background:radial-gradient(circle at 70% 25%,#fff6d5 0 6%,transparent 7%),linear-gradient(#7fb2e5,#f7d9b0 55%,#5d7f5a 56%,#35502f)";
const SEAM = "background:repeating-linear-gradient(115deg,#5a3a22 0 22px,#6b4529 22px 44px),#5a3a22";
const SCREEN = "background:linear-gradient(90deg,#eef1f4 30%,#fff 30%);font:20px sans-serif";

// ---- a desk as it may look at three in the afternoon -----------------------------------------------

const pictures = {
  seam: await drawn("IMG_4471.jpg", 900, 1200, SEAM),
  parcel: await drawn("parcel at the door.png", 1200, 700, SKY),
  tall: await drawn("长截图_2026-11-27_very_long_file_name_without_any_space_in_it_0001.png", 300, 1600, SCREEN),
  small: await drawn("icon.png", 24, 24, SKY),
};
const LONG = `I have read the care instructions twice and still have three questions:

1. Is the wax in the box the right one for the lighter leather, or does it darken it? The leaflet says "neutral", the shop page says "natural".
2. How long should they dry before the second coat? My flat is at 17 °C and rather humid.
3. https://shop.example/care/waxes/neutral-or-natural?size=50ml&colour=light-brown#comments is where somebody says it ruined theirs — true?

No hurry at all. Thank you for making things that can be repaired.`;
const CODE = `for (const boot of boots) {
\tif (boot.size === 42 && !boot.sold) console.log("<b>" + boot.name + "</b>");
}`;
const ARABIC = "مرحبا، هل يمكن إرسال الحذاء إلى دبي؟ رقم الطلب 8841-A شكرا";

const first = {}; // people of this desk, by key: { page, context, id }

async function set() {
  const desk = await lodge.setUp([shop.address]);
  shop.carry(lodge, desk.app);
  const office = await Office.enter(lodge, desk);
  const lin = { login: "lin", name: "林晓梅", role: "agent", password: "tea and biscuits at four" };
  await office.ask("POST", "agents", lin);
  await office.ask("POST", "agents", { login: "wolfgang", name: "Wolfgang Maximilian von Hohenstaufen-Schwarzenberg der Jüngere", role: "agent", password: "tea and biscuits at four" });
  const second = await office.ask("POST", "sites", { name: "靴子之家 · 官方旗舰店", origins: ["https://www.example.cn"] });
  await office.ask("PATCH", `sites/${desk.app}`, {
    texts: { en: { title: "", greeting: "Hello! Mei and Lin know every boot here. What can we do for you?", away: "", placeholder: "" }, zh: { title: "", greeting: "您好！关于靴子的一切，都可以问我们。", away: "", placeholder: "" } },
  });
  return { desk, office, lin, second };
}

const { desk, lin } = await set();

const agentContext = await browser.newContext({ ...DESKTOP, locale: "en-GB" });
const agent = new Agent(await agentContext.newPage());
await agent.signIn(lodge.address, desk);
await agent.page.locator(".list-pane").waitFor();
const linContext = await browser.newContext({ ...DESKTOP, locale: "zh-CN" });
const linAgent = new Agent(await linContext.newPage());

async function arrive(key, name, { language = "en", from = `${shop.address}/`, options = {} } = {}) {
  const context = await browser.newContext({ viewport: { width: 420, height: 760 }, locale: LOCALE[language], ...options });
  const page = await context.newPage();
  const identity = name ? `#identity=${vouch(desk, key, name)}` : "";
  await page.goto(`${lodge.address}/chat/${desk.app}${identity}`, { referer: from });
  const visitor = new Visitor(page);
  visitor.context = context;
  await visitor.box.waitFor();
  first[key] = visitor;
  return visitor;
}

async function says(visitor, ...lines) {
  for (const line of lines) {
    if (typeof line === "string") await visitor.write(line);
    else await visitor.send(line);
    await visitor.page.waitForTimeout(60);
  }
  await until("what was said has left", async () => (await visitor.page.locator(".waiting").count()) === 0);
}

async function answers(visitor, ...lines) {
  for (const line of lines) {
    if (typeof line === "string") await agent.write(line);
    else await agent.send(line);
    await agent.page.waitForTimeout(80);
  }
}

const anna = await arrive("anna", "Anna Lindqvist");
await says(anna, "Hi! My boots arrived yesterday, but the left one has a seam that is coming apart.");
await agent.open("seam that is");
await answers(anna, "I am sorry to hear that, Anna. Could you send a picture of it?");
await says(anna, pictures.seam, "Here it is. 🥾");
await answers(anna, "Thank you, that is clear. We will send you a new pair today.\nKeep the old one until it arrives; the return is free: https://shop.example/returns/8841", pictures.parcel);
await says(anna, "Wonderful 🎉", LONG, "👍");

const wang = await arrive("wang", "王建国", { language: "zh" });
await says(wang, "您好！昨天收到的靴子，左脚的缝线开了。可以退换吗？发票在这里：https://shop.example/orders/8841。");
await agent.page.keyboard.press("Escape");
await agent.open("缝线开了");
await answers(wang, "您好，非常抱歉。麻烦您拍一张照片发给我们，好吗？");
await says(wang, pictures.tall, { name: "发票-2026-11-27.pdf", mimeType: "application/pdf", buffer: Buffer.concat([Buffer.from("%PDF-1.4\n"), Buffer.alloc(48_213, 32)]) });
await answers(wang, "收到，今天就给您寄出新的一双。");

const omar = await arrive("omar", "عمر الفاروق");
await says(omar, ARABIC, CODE, "x".repeat(300));

const anonymous = await arrive("", "", {});
await says(anonymous, "Do you ship to Norway?");
const long = await arrive("bartholomew", "Bartholomew Featherstonehaugh-Cholmondeley, Purchasing, Northern Region");
await says(long, "Good afternoon. We would like to order sixty pairs.");
await agent.page.keyboard.press("Escape");
await agent.open("sixty pairs");
await answers(long, "Good afternoon! Happy to help with that.");
await chatter(long.page, 320, (n) => (n % 7 === 4 ? `第 ${n} 行：今天下午能寄出吗？` : `Line ${n} of a long talk about boots, laces and wax.`));
const closed = await arrive("greta", "Greta");
await says(closed, "Thanks, that was all!");
await agent.page.keyboard.press("Escape");
await agent.open("that was all");
await answers(closed, "You are welcome. Have a good day!");
await agent.page.keyboard.press("Escape");
await agent.page.keyboard.press("e");
await agent.page.locator("dialog[open] [data-first]").click();
await closed.page.locator(".note", { hasText: "closed" }).waitFor();
await agent.page.goto(`${lodge.address}/console/#/`);
const unread = await arrive("pia", "Pia Ø. Sørensen");
await says(unread, "Hello?", "Is somebody there? I wanted to change the address of my order.");
await linAgent.signIn(lodge.address, lin);
await linAgent.page.locator(".list-pane").waitFor();

// ---- pictures ---------------------------------------------------------------------------------------

async function shoot(name, options, go) {
  if (filters.length > 0 && !filters.some((filter) => name.includes(filter))) return;
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("pageerror", (error) => console.log(name, String(error)));
  page.on("console", (said) => ["error", "warning"].includes(said.type()) && console.log(name, said.text()));
  try {
    const undo = await go(page, context);
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${folder}/${name}.png` });
    await undo?.();
  } catch (error) {
    console.log(`FAILED ${name}: ${error.message}`);
    await page.screenshot({ path: `${folder}/${name}-FAILED.png` }).catch(() => {});
  }
  await context.close();
}

const cookies = await agentContext.cookies();
const linCookies = await linContext.cookies();
const chat = (page) => page.frameLocator("html > iframe");
const full = (hash = "") => `${lodge.address}/chat/${desk.app}${hash}`;
/** The same person on another device, with the whole history. */
const as = (key, name) => full(`#identity=${vouch(desk, key, name)}`);
const console_ = (hash = "") => `${lodge.address}/console/${hash}`;

for (const language of ["en", "zh"]) {
  for (const colorScheme of ["light", "dark"]) {
    const looks = { locale: LOCALE[language], colorScheme };
    const tag = `${language}-${colorScheme}`;
    const shopPage = `${shop.address}/${colorScheme === "dark" ? "?dark" : ""}`;
    for (const [size, options] of [["desktop", DESKTOP], ["phone", PHONE]]) {
      await shoot(`widget-closed-${size}-${tag}`, { ...options, ...looks }, async (page) => {
        shop.lang = language;
        await page.goto(shopPage);
        await chat(page).locator(".bubble-button").waitFor();
      });
      await shoot(`widget-open-${size}-${tag}`, { ...options, ...looks }, async (page) => {
        shop.lang = language;
        await page.goto(shopPage);
        await chat(page).locator(".bubble-button").click();
        await chat(page).locator(".greeting").waitFor();
      });
      await shoot(`widget-talk-${size}-${tag}`, { ...options, ...looks }, async (page) => {
        shop.lang = language;
        await page.goto(shopPage);
        await chat(page).locator(".bubble-button").click();
        await chat(page).locator(".box").fill(language === "zh" ? "你们送货到挪威吗？" : "Do you ship to Norway?");
        await chat(page).locator(".box").press("Enter");
        await chat(page).locator(".note, .status:not(:empty)").first().waitFor();
      });
    }
    const [key, name] = language === "zh" ? ["wang", "王建国"] : ["anna", "Anna Lindqvist"];
    await shoot(`chat-phone-${tag}`, { ...PHONE, ...looks }, async (page) => {
      await page.goto(as(key, name));
      await page.locator(".own .bubble").first().waitFor();
    });
    await shoot(`chat-keyboard-${tag}`, { ...KEYBOARD, ...looks }, async (page) => {
      await page.goto(as(key, name));
      await page.locator(".own .bubble").first().waitFor();
      await page.locator(".box").fill(language === "zh" ? "好的，\n谢谢！" : "And one more thing:\nthe laces");
      await page.locator(".box").focus();
    });
    await shoot(`chat-desktop-${tag}`, { ...LAPTOP, ...looks }, async (page) => {
      await page.goto(as(key, name));
      await page.locator(".own .bubble").first().waitFor();
    });
    await shoot(`chat-odd-${tag}`, { ...PHONE, ...looks }, async (page) => {
      await page.goto(as("omar", "عمر الفاروق"));
      await page.locator(".own .bubble").first().waitFor();
    });
    await shoot(`chat-offline-${tag}`, { ...PHONE, ...looks }, async (page, context) => {
      await page.goto(as("offline", "Off"));
      await page.locator(".box").waitFor();
      await page.waitForTimeout(600);
      await context.setOffline(true);
      await page.goto("about:blank").catch(() => {});
      await context.setOffline(false);
      const address = `http://localhost:${cable.port}/chat/${desk.app}`;
      await page.goto(address);
      await page.waitForTimeout(600);
      await context.setOffline(true);
      cable.pull();
      await page.locator(".box").fill(language === "zh" ? "我在隧道里" : "Written in a tunnel");
      await page.locator(".box").press("Enter");
      await page.locator(".notice:not([hidden])").waitFor();
      return () => cable.plug();
    });
    await shoot(`chat-failed-${tag}`, { ...PHONE, ...looks }, async (page) => {
      await page.route("**/api/v1/uploads**", (route) => route.fulfill({ status: 413, contentType: "application/json", body: '{"error":{"code":4007,"name":"TooLarge","text":"This is too large."}}' }));
      await page.goto(full());
      await page.locator("input[type=file]").setInputFiles(pictures.parcel);
      await page.locator(".refused").waitFor();
    });

    // ---- the console
    const inside = async (page, context, hash = "", who = cookies) => {
      await context.addCookies(who);
      await page.goto(console_(hash));
      await page.locator(".list-pane, .settings, main").first().waitFor();
    };
    const open = async (page, words) => {
      await page.keyboard.press("Escape");
      await page.keyboard.press("3");
      await page.locator("[data-talk]", { hasText: words }).first().click();
      await page.locator(".said").first().waitFor();
    };
    for (const [size, options] of [["desktop", DESKTOP], ["phone", PHONE]]) {
      await shoot(`console-signin-${size}-${tag}`, { ...options, ...looks }, (page) => page.goto(console_()).then(() => page.locator("form").waitFor()));
      await shoot(`console-list-${size}-${tag}`, { ...options, ...looks }, async (page, context) => {
        await inside(page, context);
        await page.locator("[data-talk]").first().waitFor();
      });
      await shoot(`console-talk-${size}-${tag}`, { ...options, ...looks }, async (page, context) => {
        await inside(page, context);
        await open(page, language === "zh" ? "今天就给您" : "👍");
      });
      await shoot(`console-odd-${size}-${tag}`, { ...options, ...looks }, async (page, context) => {
        await inside(page, context);
        await open(page, "xxxxx");
      });
      await shoot(`console-long-${size}-${tag}`, { ...options, ...looks }, async (page, context) => {
        await inside(page, context);
        await open(page, "Line 320");
        await page.locator(".log").evaluate((log) => log.scrollBy(0, -900));
      });
      for (const where of ["prefs", "people", "sites", `sites/${desk.app}`]) {
        await shoot(`console-settings-${where.split("/").length > 1 ? "site" : where}-${size}-${tag}`, { ...options, ...looks }, (page, context) => inside(page, context, `#/settings/${where}`));
      }
    }
    await shoot(`console-laptop-${tag}`, { ...LAPTOP, ...looks }, async (page, context) => {
      await inside(page, context);
      await open(page, "Is somebody there");
    });
    await shoot(`console-visitor-phone-${tag}`, { ...PHONE, ...looks }, async (page, context) => {
      await inside(page, context);
      await open(page, "👍");
      await page.locator('.talk-pane header [aria-pressed="false"]').click();
    });
    await shoot(`console-empty-${tag}`, { ...DESKTOP, ...looks }, async (page, context) => {
      await inside(page, context, "", linCookies);
      await page.keyboard.press("2");
    });
    await shoot(`console-closed-${tag}`, { ...DESKTOP, ...looks }, async (page, context) => {
      await inside(page, context);
      await page.keyboard.press("4");
      await page.locator("[data-talk]").first().click();
      await page.locator(".said").first().waitFor();
    });
    await shoot(`console-lightbox-${tag}`, { ...DESKTOP, ...looks }, async (page, context) => {
      await inside(page, context);
      await open(page, "👍");
      await page.locator("button.picture").first().click();
    });
    await shoot(`console-keys-${tag}`, { ...DESKTOP, ...looks }, async (page, context) => {
      await inside(page, context);
      await page.locator("[data-talk]").first().waitFor();
      await page.keyboard.press("?");
    });
    await shoot(`console-lost-${tag}`, { ...DESKTOP, ...looks }, async (page, context) => {
      await context.addCookies(cookies.map((cookie) => ({ ...cookie })));
      await page.goto(`http://localhost:${cable.port}/console/`);
      await open(page, "Is somebody there");
      await context.setOffline(true);
      cable.pull();
      await page.locator("[data-keys=compose]").fill("Of course. What is the new address?");
      await page.locator("[data-keys=compose]").press("Enter");
      await page.locator(".link-bar p").waitFor();
      await page.waitForTimeout(700);
      return () => cable.plug();
    });
    await shoot(`console-failed-${tag}`, { ...DESKTOP, ...looks }, async (page, context) => {
      await page.route("**/api/v1/uploads**", (route) => route.fulfill({ status: 413, contentType: "application/json", body: '{"error":{"code":4007,"name":"TooLarge","text":"This is too large."}}' }));
      await inside(page, context);
      await open(page, "👍");
      await page.locator("input[type=file]").setInputFiles(pictures.parcel);
      await page.locator("[data-keys=compose]").press("Enter");
      await page.locator(".refused").waitFor();
    });
    await shoot(`setup-closed-${tag}`, { ...LAPTOP, ...looks }, (page) => page.goto(`${lodge.address}/setup#spent`).then(() => page.locator("h1").waitFor()));
  }
}

// A server that nobody set up yet.
const fresh = await Lodge.start("screens-fresh", { mode: "tls" });
const token = await fresh.setupToken();
for (const language of ["en", "zh"]) {
  for (const [size, options] of [["desktop", { viewport: { width: 1100, height: 1200 } }], ["phone", PHONE]]) {
    const looks = { ...options, locale: LOCALE[language], ignoreHTTPSErrors: true, colorScheme: language === "zh" ? "dark" : "light" };
    await shoot(`setup-${size}-${language}`, looks, (page) => page.goto(`${fresh.address}/setup#${token}`).then(() => page.locator("form").waitFor()));
    await shoot(`setup-notoken-${size}-${language}`, looks, (page) => page.goto(`${fresh.address}/setup`).then(() => page.locator("h1").waitFor()));
    await shoot(`setup-wrong-${size}-${language}`, looks, async (page) => {
      await page.goto(`${fresh.address}/setup#nonsense`);
      await fill(page);
      await page.locator(".wrong:not(:empty)").waitFor();
    });
  }
}
await shoot("setup-done-desktop-en", { viewport: { width: 1100, height: 1300 }, locale: "en-GB", ignoreHTTPSErrors: true }, async (page) => {
  await page.goto(`${fresh.address}/setup#${token}`);
  await fill(page);
  await page.locator(".secrets").waitFor();
});
await shoot("empty-desk-desktop-en", { ...DESKTOP, locale: "en-GB", ignoreHTTPSErrors: true }, async (page) => {
  await page.goto(console_().replace(lodge.address, fresh.address));
  await page.locator('[autocomplete="username"]').fill("clara");
  await page.locator('[type="password"]').fill("a long enough sentence");
  await page.keyboard.press("Enter");
  await page.locator(".list-pane").waitFor();
});

async function fill(page) {
  await page.locator("form").waitFor();
  const fields = page.locator("form input");
  for (const [n, text] of ["Clara Weber", "clara", "a long enough sentence", "Harbour Clinic"].entries()) await fields.nth(n).fill(text);
  await page.locator("form button.firm").click();
}

await browser.close();
shop.close();
cable.close();
await lodge.kill();
await fresh.kill();
