// Debian's Chromium, and the people who sit in front of it. Where a button is on the two screens is
// said here and nowhere else.
import { chromium } from "playwright-core";
import { deflateSync } from "node:zlib";

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Root has no sandbox of its own, and a test machine little shared memory.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
}

/** The visitor's screen, full page or inside a site. */
export class Visitor {
  constructor(page, root = page) {
    this.page = page;
    this.root = root;
  }

  get log() {
    return this.root.getByRole("log");
  }

  get box() {
    return this.root.getByRole("textbox").last();
  }

  async write(text) {
    await this.box.fill(text);
    await this.box.press("Enter");
  }

  async send(image) {
    await this.root.locator('input[type="file"]').first().setInputFiles(image);
  }
}

/** The agent's screen. */
export class Agent {
  constructor(page) {
    this.page = page;
  }

  async signIn(address, { login, password }) {
    await this.page.goto(`${address}/console/`);
    await this.page.locator('[autocomplete="username"]').fill(login);
    const secret = this.page.locator('[autocomplete="current-password"]');
    await secret.fill(password);
    await secret.press("Enter");
  }

  /** Opens the conversation whose newest words are these. */
  async open(words) {
    const row = this.page.locator("[data-talk]", { hasText: words }).first();
    await row.click();
    // Until it is the open one, what is written goes to the conversation that was open before.
    await this.page.locator('[data-talk][aria-current="page"]', { hasText: words }).first().waitFor();
  }

  get log() {
    return this.page.getByRole("log");
  }

  get box() {
    return this.page.locator('[data-keys="compose"]');
  }

  async write(text) {
    await this.box.fill(text);
    await this.box.press("Enter");
  }

  /** Picks the file, then sends what lies in the tray. */
  async send(image) {
    await this.page.locator('input[type="file"]').setInputFiles(image);
    await this.box.press("Enter");
  }
}

/** A picture that is nobody's: `width` times `height` of one colour, as a file for an upload. */
export function picture(name, width, height, [red, green, blue]) {
  const rows = Buffer.alloc(height * (1 + width * 3));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows.set([red, green, blue], y * (1 + width * 3) + 1 + x * 3);
  }
  const chunk = (kind, body) => {
    const bytes = Buffer.alloc(body.length + 12);
    bytes.writeUInt32BE(body.length, 0);
    bytes.write(kind, 4, "latin1");
    body.copy(bytes, 8);
    bytes.writeUInt32BE(crc32(bytes.subarray(4, body.length + 8)), body.length + 8);
    return bytes;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  const buffer = Buffer.concat([
    Buffer.from("89504e470d0a1a0a", "hex"),
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
  return { name, mimeType: "image/png", buffer };
}

function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}
