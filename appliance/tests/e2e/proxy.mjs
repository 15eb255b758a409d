// proxy.mjs ADDRESS APPID: what a visitor does, through a reverse proxy. Prints "ok NAME" or "not ok NAME: WHY".
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import https from "node:https";
import tls from "node:tls";
import { until } from "./lodge.mjs";

const [address, app] = process.argv.slice(2);
const url = new URL(address);

await tell("nginx passes the server's readiness on", async () => {
  await until("ready", async () => (await ask("GET", "/readyz").catch(() => null))?.status === 200);
});
await tell("the widget's script comes through", async () => {
  const { status, headers } = await ask("GET", "/widget.js");
  assert.equal(status, 200);
  assert.match(headers["content-type"], /javascript/);
});
let token;
await tell("a visitor gets a token from its own origin", async () => {
  const device = randomBytes(16).toString("base64url");
  const answer = await ask("POST", `/api/v1/visitor/token?app=${app}`, JSON.stringify({ device }), {
    origin: address,
    "content-type": "application/json",
  });
  assert.equal(answer.status, 200, answer.body.toString());
  token = JSON.parse(answer.body).token;
  assert.ok(token);
});
await tell("another origin is refused by name", async () => {
  const device = randomBytes(16).toString("base64url");
  const answer = await ask("POST", `/api/v1/visitor/token?app=${app}`, JSON.stringify({ device }), {
    origin: "https://elsewhere.example",
    "content-type": "application/json",
  });
  assert.equal(answer.status, 403);
  assert.match(answer.body.toString(), /elsewhere\.example/);
});
await tell("a file of more than a megabyte is not stopped on the way", async () => {
  const file = Buffer.concat([Buffer.from("%PDF-1.4\n"), randomBytes(2 << 20)]);
  const answer = await ask("POST", `/api/v1/uploads?app=${app}&name=a.pdf`, file, {
    origin: address,
    authorization: `Bearer ${token}`,
    "content-type": "application/pdf",
  });
  assert.equal(answer.status, 201, answer.body.toString());
  assert.equal(JSON.parse(answer.body).size, file.length);
});
await tell("a WebSocket is opened and its frames pass", async () => {
  const socket = tls.connect({ host: url.hostname, port: Number(url.port), rejectUnauthorized: false });
  socket.write(
    `GET /api/v1/session?app=${app} HTTP/1.1\r\nHost: ${url.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n` +
      `Sec-WebSocket-Protocol: lodge.v1.json\r\nOrigin: ${address}\r\n\r\n`,
  );
  let seen = Buffer.alloc(0);
  socket.on("data", (part) => (seen = Buffer.concat([seen, part])));
  await until("the upgrade", () => seen.includes("\r\n\r\n"));
  assert.match(seen.toString("latin1"), /^HTTP\/1\.1 101 /);
  const head = seen.indexOf("\r\n\r\n") + 4;
  // One masked text frame with nothing in it that is a session: the server refuses it in words.
  const mask = randomBytes(4);
  const words = Buffer.from("[{}]").map((byte, at) => byte ^ mask[at % 4]);
  socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | words.length]), mask, words]));
  await until("an answer", () => seen.length > head);
  socket.destroy();
});

async function tell(name, prove) {
  try {
    await prove();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}: ${String(error.message).split("\n")[0]}`);
    process.exitCode = 1;
  }
}

function ask(method, where, body = "", headers = {}) {
  return new Promise((resolve, reject) => {
    const asked = https.request(
      address + where,
      { method, headers: { ...headers, "content-length": Buffer.byteLength(body) }, timeout: 10_000 },
      async (answer) => {
        const parts = [];
        for await (const part of answer) parts.push(part);
        resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) });
      },
    );
    asked.on("timeout", () => asked.destroy(new Error("no answer")));
    asked.on("error", reject);
    asked.end(body);
  });
}
