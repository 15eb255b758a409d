// The real server in a folder of its own: started, set up as an operator would, killed, checked.
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, open, readFile, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const READY_MS_MAX = 60_000;

/** A port of loopback that was free a moment ago. */
export async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Waits until `holds` returns something; fails with `what` when it never does. */
export async function until(what, holds, ms = 20_000) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((next) => setTimeout(next, 20));
  }
}

export class Lodge {
  #child;

  /** `mode` is "plain" or "tls"; `publicUrl` is what visitors type, where that is another address. */
  static async start(name, { mode = "plain", publicUrl = "" } = {}) {
    const lodge = new Lodge();
    lodge.binary = process.env.LODGE_BINARY;
    lodge.folder = path.join(process.env.LODGE_SCRATCH, name);
    lodge.config = path.join(lodge.folder, "lodge.toml");
    lodge.port = await freePort();
    lodge.address = `${mode === "tls" ? "https" : "http"}://localhost:${lodge.port}`;
    await mkdir(lodge.folder, { recursive: true });
    const at = (file) => JSON.stringify(path.join(lodge.folder, file));
    await writeFile(
      lodge.config,
      `data_dir = ${at("data")}
[listen]
address = "127.0.0.1:${lodge.port}"
mode = "${mode}"
public_url = "${publicUrl || lodge.address}"
[tls]
names = ["localhost"]
[control]
socket = ${at("control")}
`,
    );
    await lodge.restart();
    return lodge;
  }

  async restart() {
    const log = await open(path.join(this.folder, "server.log"), "a");
    this.#child = spawn(this.binary, ["serve", "--config", this.config], {
      stdio: ["ignore", log.fd, log.fd],
    });
    await log.close();
    const child = this.#child;
    let ended = false;
    child.once("exit", () => (ended = true));
    await until(
      "the server is ready",
      async () => {
        if (ended) throw new Error(`the server ended: ${await this.log()}`);
        return (await this.get("/readyz").catch(() => null))?.status === 200;
      },
      READY_MS_MAX,
    );
  }

  /** Without a chance to tidy up, as a power cut would. */
  async kill(signal = "SIGKILL") {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    await ended;
  }

  /** Stands still as a machine that swaps does: connections stay, nothing is answered, until `go`. */
  pause() {
    this.#child.kill("SIGSTOP");
  }

  go() {
    this.#child.kill("SIGCONT");
  }

  async log() {
    return readFile(path.join(this.folder, "server.log"), "utf8").catch(() => "");
  }

  get(where) {
    return this.#ask("GET", where);
  }

  /** What stands behind the `#` of the one-time address. */
  async setupToken() {
    const { stdout } = await run(this.binary, ["setup", "--config", this.config]);
    const token = /\/setup#([A-Za-z0-9_-]+)/.exec(stdout)?.[1];
    if (!token) throw new Error(`lodge setup printed no set-up address: ${stdout}`);
    return token;
  }

  /** As an operator's first minutes: the one-time address, an account, a site. */
  async setUp(origins) {
    const token = await this.setupToken();
    const password = randomBytes(9).toString("base64url");
    const answer = await this.#ask("POST", "/api/v1/setup", {
      token,
      login: "mei",
      password,
      name: "Mei",
      site_name: "Tea",
      origins,
    });
    if (answer.status < 200 || answer.status > 299) {
      throw new Error(`set-up was refused: ${answer.status} ${answer.body}`);
    }
    return { ...JSON.parse(answer.body), login: "mei", password };
  }

  /** What `lodge check` says of the stopped store. */
  async check() {
    const { stdout } = await run(this.binary, ["check", "--config", this.config, "--json"]);
    return JSON.parse(stdout);
  }

  #ask(method, where, body) {
    const text = body === undefined ? "" : JSON.stringify(body);
    const { request } = this.address.startsWith("https") ? https : http;
    return new Promise((resolve, reject) => {
      const asked = request(
        this.address + where,
        {
          method,
          rejectUnauthorized: false, // its certificate was made a moment ago
          timeout: 10_000,
          headers: { "content-type": "application/json", "x-lodge": "1", "content-length": Buffer.byteLength(text) },
        },
        async (answer) => {
          const parts = [];
          for await (const part of answer) parts.push(part);
          resolve({ status: answer.statusCode, body: Buffer.concat(parts).toString() });
        },
      );
      asked.on("timeout", () => asked.destroy(new Error("no answer")));
      asked.on("error", reject);
      asked.end(text);
    });
  }
}

/**
 * A cable between a browser and the server that can be pulled out: whoever is connected loses the
 * connection, and nobody gets a new one.
 */
export class Cable {
  #server;
  #ends = new Set();
  #plugged = true;

  static async lay(port) {
    const cable = new Cable();
    cable.#server = net.createServer((near) => {
      if (!cable.#plugged) return near.destroy();
      const far = net.connect(port, "127.0.0.1");
      for (const [end, other] of [[near, far], [far, near]]) {
        cable.#ends.add(end);
        end.pipe(other);
        end.on("error", () => other.destroy());
        end.on("close", () => {
          cable.#ends.delete(end);
          other.destroy();
        });
      }
    });
    cable.#server.listen(0, "127.0.0.1");
    await once(cable.#server, "listening");
    cable.port = cable.#server.address().port;
    return cable;
  }

  pull() {
    this.#plugged = false;
    for (const end of this.#ends) end.destroy();
  }

  plug() {
    this.#plugged = true;
  }

  close() {
    this.pull();
    this.#server.close();
  }
}
