/**
 * A desk behind a real socket, for looking at the widget without the server: in memory, and with an
 * agent who answers. `node build/test/mock-desk.js [PORT] [BUNDLE]` serves the bundle, the pages and
 * the API on loopback. Nothing here is a model of the server's security.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer, type WebSocket } from "ws";

import { decodeDown, decodeUp, encodeUp, toBase64 } from "../src/codec.js";
import type { Up } from "../src/wire.js";
import { Desk, Peer, type Row } from "./desk.js";

const port = Number(process.argv[2] ?? 8444);
const bundle = process.argv[3] ?? fileURLToPath(new URL("../../../../../appliance/web/dist/widget/", import.meta.url));
const TYPES: Record<string, string> = { ".js": "text/javascript", ".css": "text/css", ".html": "text/html" };
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'";

const desk = new Desk(() => Date.now());
const visitors = new Map<string, string>();
const blobs = new Map<string, { mime: string; bytes: Buffer }>();
const site = {
  app: "DEMO",
  name: "Nordwind Outfitters",
  colour: "#0f766e",
  texts: {},
  presence: false,
  languages: ["en", "zh"],
  limits: {
    text_bytes_max: 16384,
    upload_bytes_max: 25 * 1024 * 1024,
    image_types: ["image/png", "image/jpeg", "image/gif", "image/webp"],
  },
  reachable: true,
};

/** An agent who reads everything, types for a while and says something fitting. */
function agentSits(name: string): void {
  const agent = desk.person("agent", name);
  let counter = 0;
  const heads = new Map<number, number>();
  const visitorsSeen = new Map<number, number>();
  const say = (frames: Up[]) => peer.receive(encodeUp(frames));
  const peer = new Peer(
    desk,
    agent,
    (batch) => {
      for (const frame of decodeDown(batch)) {
        if (frame.op === "conversation") visitorsSeen.set(frame.handle, frame.visitor);
        if (frame.op !== "entry" || frame.lane !== "public") continue;
        const { conversation, seq, body, author } = frame;
        heads.set(conversation, seq);
        if (author !== visitorsSeen.get(conversation)) continue;
        if (body.kind !== "text" && body.kind !== "file") continue;
        setTimeout(() => say([{ op: "mark", conversation, delivered: seq, read: 0 }]), 300);
        setTimeout(() => say([{ op: "mark", conversation, delivered: seq, read: seq }]), 1200);
        setTimeout(() => say([{ op: "typing", conversation, on: true }]), 1500);
        setTimeout(() => {
          counter += 1;
          say([
            { op: "typing", conversation, on: false },
            { op: "draft", counter, settled: counter, conversation, lane: "public", body: { kind: "text", text: answerTo(body) } },
          ]);
        }, 3200);
      }
    },
    () => {},
  );
  say([
    { op: "hello", version: 1, caps: 0, device: desk.newId(), generation: 1, epoch: desk.epoch, cursor: 0, last_counter: 0, settled: 1, token: "", marks: [] },
  ]);
}

function answerTo(body: { kind: string | number }): string {
  if (body.kind === "file") return "Thank you, I can see it. 我已经收到了。";
  const text = (body as unknown as { text: string }).text;
  if (/[\u4e00-\u9fff]/.test(text)) return "好的，我马上帮您查询，请稍等。";
  const words = text.match(/[a-z]{3,}/gi)?.slice(0, 3).join("+") ?? "";
  return `Happy to help! I am looking into that now. More here: https://example.org/help?q=${words}`;
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

const bearer = (request: IncomingMessage) => (request.headers.authorization ?? "").replace("Bearer ", "");

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://x");
  const path = url.pathname;
  if (path === "/api/v1/site") return json(response, 200, site);
  if (path === "/api/v1/visitor/token") {
    const asked = JSON.parse((await bodyOf(request)).toString()) as { token?: string; identity?: string };
    const known = visitors.get(asked.token ?? "") ?? visitors.get(asked.identity ?? "");
    const visitor = known ?? desk.person("visitor", asked.identity ?? "Visitor").id;
    if (asked.identity) visitors.set(asked.identity, visitor);
    const token = toBase64(crypto.getRandomValues(new Uint8Array(16)));
    visitors.set(token, visitor);
    return json(response, 200, { token, visitor, name: "", expires_at_ms: Date.now() + 3_600_000, vouched: false });
  }
  if (path === "/api/v1/uploads") {
    if (!visitors.has(bearer(request))) return json(response, 401, { error: { code: 3001, name: "TokenInvalid", text: "no" } });
    const bytes = await bodyOf(request);
    const upload = toBase64(crypto.getRandomValues(new Uint8Array(16)));
    const mime = request.headers["content-type"] ?? "application/octet-stream";
    blobs.set(upload, { mime, bytes });
    const size = bytes.length;
    const pixels = mime === "image/png" ? { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) } : { width: 0, height: 0 };
    Peer.uploads.set(upload, { mime, size, ...pixels });
    return json(response, 200, { upload, mime, size, ...pixels });
  }
  if (path.startsWith("/api/v1/files/")) {
    const [id, lane, seq] = path.slice(14).split("/");
    const row = desk.rows.find((row: Row) => row.conversation === id && row.lane === lane && row.seq === Number(seq));
    const blob = blobs.get(String(row?.body.upload));
    if (!blob) return json(response, 404, { error: { code: 4005, name: "UploadUnknown", text: "no" } });
    response.writeHead(200, { "Content-Type": blob.mime, "X-Content-Type-Options": "nosniff" });
    return void response.end(blob.bytes);
  }
  if (path === "/demo/restart") {
    desk.restart();
    agentSits("Ada Lindqvist");
    return json(response, 200, {});
  }
  if (path === "/demo/fill") {
    const [newest] = [...desk.conversations.values()].slice(-1);
    const agent = [...desk.persons.values()].find((person) => person.kind === "agent");
    for (let line = 1; newest && agent && line <= Number(url.searchParams.get("count")); line += 1) {
      desk.append(newest, "public", agent.id, { kind: "text", text: `line ${line}` });
    }
    desk.follow();
    return json(response, 200, {});
  }
  const file = path.startsWith("/chat/") ? "chat.html" : path === "/widget.js" ? "widget.js" : path.startsWith("/widget/") ? path.slice(8) : "";
  try {
    const bytes = await readFile(join(bundle, normalize(file)));
    const chat = file === "chat.html" ? { "Content-Security-Policy": CSP } : {};
    response.writeHead(200, { "Content-Type": `${TYPES[extname(file)] ?? "text/plain"}; charset=utf-8`, ...chat });
    response.end(bytes);
  } catch {
    if (path === "/favicon.ico") response.writeHead(204).end();
    else json(response, 404, { error: { code: 4003, name: "NotFound", text: path } });
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy());
});

const sockets = new WebSocketServer({ server, path: "/api/v1/session" });
sockets.on("connection", (socket: WebSocket) => {
  let peer: Peer | undefined;
  socket.on("message", (bytes: Buffer) => {
    if (!peer) {
      const token = tokenOf(bytes);
      const who = desk.persons.get(visitors.get(token) ?? "");
      if (!who) return socket.close();
      peer = new Peer(desk, who, (batch) => socket.send(batch), () => socket.close());
    }
    try {
      peer.receive(new Uint8Array(bytes));
    } catch {
      peer.end();
    }
  });
  socket.on("close", () => peer?.end());
});

/** Who a connection is, from its first frame. */
function tokenOf(bytes: Buffer): string {
  const [hello] = decodeUp(new Uint8Array(bytes));
  return hello?.op === "hello" ? hello.token : "";
}

agentSits("Ada Lindqvist");
server.listen(port, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/chat/DEMO`);
});
