// Two windows hold a conversation with an image each way; the server is killed -9 between two messages;
// the visitor goes offline, writes, and comes back. Afterwards both screens and `lodge check` agree.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Agent, Visitor, launch, picture } from "./browser.mjs";
import { Cable, Lodge, until } from "./lodge.mjs";

const SAID = {
  first: "你好，那把蓝色的茶壶还有吗？",
  answer: "Yes, two of them. Which size?",
  before: "The small one, please. 小的。",
  whileDown: "Are you still there? 🫖",
  afterwards: "We are. It was only the power.",
  agentMeanwhile: "It ships tomorrow.",
  offline: "I wrote this in a tunnel.",
  last: "And it arrived. 到了。",
};
const RED = picture("teapot.png", 48, 32, [200, 30, 30]);
const BLUE = picture("receipt.png", 40, 56, [30, 60, 200]);

let lodge, cable, browser, visitor, agent, desk;

before(async () => {
  lodge = await Lodge.start("conversation");
  desk = await lodge.setUp([]);
  cable = await Cable.lay(lodge.port);
  browser = await launch();
  visitor = new Visitor(await (await browser.newContext()).newPage());
  agent = new Agent(await (await browser.newContext()).newPage());
});

after(async () => {
  await browser?.close();
  cable?.close();
  await lodge?.kill();
});

/** `words` stand on `side`'s screen, once. */
async function stands(side, words) {
  await side.log.getByText(words, { exact: true }).first().waitFor({ timeout: 20_000 });
  assert.equal(await side.log.getByText(words, { exact: true }).count(), 1, `twice: ${words}`);
}

/** A picture of this size is shown on `side`'s screen, decoded. */
async function shows(side, width, height) {
  await until(`a picture of ${width}×${height}`, () =>
    side.log.locator("img").evaluateAll(
      (images, [width, height]) =>
        images.some((image) => image.naturalWidth === width && image.naturalHeight === height),
      [width, height],
    ),
  );
}

/** What stands on the screen, in its order: our sentences and the sizes of pictures. */
async function transcript(side) {
  return side.log.evaluate((log, sentences) => {
    const found = [];
    const walk = document.createTreeWalker(log, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      if (node.nodeName === "IMG" && node.naturalWidth >= 40) {
        found.push(`${node.naturalWidth}×${node.naturalHeight}`);
      }
      if (node.nodeType === Node.TEXT_NODE && sentences.includes(node.data.trim())) {
        found.push(node.data.trim());
      }
    }
    return found;
  }, Object.values(SAID));
}

test("the visitor writes first and the agent answers", async () => {
  await agent.signIn(lodge.address, desk);
  await visitor.page.goto(`http://localhost:${cable.port}/chat/${desk.app}`);
  await visitor.write(SAID.first);
  await stands(visitor, SAID.first);
  await agent.open(SAID.first);
  await stands(agent, SAID.first);
  await agent.write(SAID.answer);
  await stands(visitor, SAID.answer);
});

test("an image goes each way", async () => {
  await visitor.send(RED);
  await shows(agent, 48, 32);
  await agent.send(BLUE);
  await shows(visitor, 40, 56);
});

test("the server is killed between two messages", async () => {
  await visitor.write(SAID.before);
  await stands(agent, SAID.before);
  await lodge.kill();
  await visitor.write(SAID.whileDown);
  await stands(visitor, SAID.whileDown); // on its own screen, waiting
  await lodge.restart();
  await stands(agent, SAID.whileDown);
  await agent.write(SAID.afterwards);
  await stands(visitor, SAID.afterwards);
});

test("the visitor goes offline, writes, and comes back", async () => {
  await visitor.page.context().setOffline(true);
  cable.pull();
  await visitor.write(SAID.offline);
  await agent.write(SAID.agentMeanwhile);
  await stands(agent, SAID.agentMeanwhile);
  assert.equal(await agent.log.getByText(SAID.offline).count(), 0);
  cable.plug();
  await visitor.page.context().setOffline(false);
  await stands(agent, SAID.offline);
  await stands(visitor, SAID.agentMeanwhile);
  await visitor.write(SAID.last);
  await stands(agent, SAID.last);
});

test("both screens agree, also after a reload", async () => {
  const expected = [
    SAID.first, SAID.answer, "48×32", "40×56", SAID.before, SAID.whileDown, SAID.afterwards,
    SAID.agentMeanwhile, SAID.offline, SAID.last,
  ];
  const decoded = () => Promise.all([visitor, agent].flatMap((side) => [shows(side, 40, 56), shows(side, 48, 32)]));
  await decoded();
  assert.deepEqual(await transcript(agent), expected);
  assert.deepEqual(await transcript(visitor), expected);
  await Promise.all([visitor.page.reload(), agent.page.reload()]);
  await stands(visitor, SAID.last);
  if ((await agent.log.count()) === 0) await agent.open(SAID.last);
  await stands(agent, SAID.last);
  await decoded();
  assert.deepEqual(await transcript(agent), expected);
  assert.deepEqual(await transcript(visitor), expected);
});

test("lodge check finds nothing wrong", async () => {
  await lodge.kill("SIGTERM");
  const report = await lodge.check();
  assert.deepEqual(report.findings, []);
  assert.ok(report.records >= 10, JSON.stringify(report));
});
