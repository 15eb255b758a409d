// `/chat/APPID` on a slow phone in a slow network: 50 KB/s, 400 ms, a quarter of the CPU, over TLS.
// Prints one JSON line a figure: the median of several first visits.
import { launch, Visitor } from "./browser.mjs";
import { Lodge } from "./lodge.mjs";

const LINE = { offline: false, latency: 400, downloadThroughput: 50_000, uploadThroughput: 50_000 };
const CPU_SLOWDOWN = 4;
const VISITS = 5;
const SETTLED = 0x11;

const lodge = await Lodge.start("page", { mode: "tls" });
const browser = await launch();
try {
  const { app } = await lodge.setUp([]);
  const visits = [];
  for (let visit = 0; visit < VISITS; visit++) {
    visits.push(await firstVisit(app));
    console.error(`visit ${visit + 1}: ${JSON.stringify(visits.at(-1))}`);
  }
  const median = (key) => visits.map((visit) => visit[key]).sort((a, b) => a - b)[VISITS >> 1];
  print("page/usable", median("usable"), "ms", 2_500);
  print("page/acknowledged", median("acknowledged"), "ms", 4_000);
  print("page/bytes", median("bytes"), "bytes", 30 * 1024);
} finally {
  await browser.close();
  await lodge.kill();
}

function print(name, value, unit, against) {
  value = Math.round(value);
  console.log(JSON.stringify({ name, value, unit, against, ratio: against / value }));
}

/** A browser that has never been here; times count from the moment the address is opened. */
async function firstVisit(app) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 390, height: 844 },
    isMobile: true,
    hasTouch: true,
  });
  try {
    const page = await context.newPage();
    const line = await context.newCDPSession(page);
    await line.send("Network.enable");
    await line.send("Network.emulateNetworkConditions", LINE);
    await line.send("Emulation.setCPUThrottlingRate", { rate: CPU_SLOWDOWN });
    let bytes = 0;
    line.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));

    let settled;
    const acknowledged = new Promise((resolve) => (settled = resolve));
    page.on("websocket", (socket) =>
      socket.on("framereceived", ({ payload }) => {
        if (has(payload, SETTLED)) settled(performance.now());
      }),
    );

    const start = performance.now();
    const visitor = new Visitor(page);
    await page.goto(`${lodge.address}/chat/${app}`, { waitUntil: "commit" });
    await visitor.box.waitFor();
    await page.waitForFunction(() => !document.querySelector("textarea")?.disabled);
    const usable = performance.now() - start;
    const needed = bytes;
    await visitor.write("Hello?");
    return { usable, acknowledged: (await acknowledged) - start, bytes: needed };
  } finally {
    await context.close();
  }
}

/** Whether a batch holds a frame of this kind: each is its length as a varint, then its opcode. */
function has(batch, opcode) {
  if (typeof batch === "string") return batch.includes('"settled"');
  for (let at = 0; at < batch.length; ) {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = batch[at++];
      length += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    if (batch[at] === opcode) return true;
    at += length;
  }
  return false;
}
