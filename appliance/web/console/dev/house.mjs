// Serves the built bundle and the stage from one loopback port, under the policy that the server sets, and opens
// a browser on it. Used by `check.mjs` and `look.mjs`.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { stage } from "./stage.mjs";

const DIST = fileURLToPath(new URL("../../dist/console/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };
export const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export async function house(options = {}) {
  const play = await stage({ alive: false, ...options });
  const server = createServer((request, response) => play.answer(request, response, async () => {
    const path = new URL(request.url, "http://house").pathname;
    const name = normalize(path.replace(/^\/console\//, "")).replace(/^\.\.(\/|$)/, "");
    const file = path.startsWith("/console/") && extname(name) ? name : "index.html";
    try {
      const bytes = await readFile(join(DIST, file));
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-security-policy": POLICY, "x-content-type-options": "nosniff" });
      response.end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  }));
  server.on("upgrade", play.connect);
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const address = `http://127.0.0.1:${server.address().port}`;
  return { ...play, address, close: () => { server.closeAllConnections(); server.close(); } };
}

export function browser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

export async function signIn(page, at) {
  await page.goto(`${at.address}/console/`);
  await page.locator('input[autocomplete="username"]').fill(at.login());
  await page.locator('input[type="password"]').fill(at.password);
  await page.locator("form button.firm").click();
  await page.locator(".list-pane").waitFor();
}
