// What the tests of the screens and the pictures share: the site's back end that vouches, a shop's page
// that carries the widget (plain, strict, hostile, covered), the API as an operator uses it.
import { createHmac } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { until } from "./lodge.mjs";

const part = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

/** As the site's back end would: an identity token for one of its visitors, good for ten minutes. */
export function vouch(desk, subject, name = subject, life_s = 600) {
  const now = Math.floor(Date.now() / 1000);
  const said = `${part({ alg: "HS256", kid: desk.identity_key_id })}.${part({ aud: desk.app, sub: subject, name, iat: now, exp: now + life_s })}`;
  return `${said}.${createHmac("sha256", desk.identity_secret).update(said).digest("base64url")}`;
}

/** Lines by the hundred, written by the chat's own page; line 1 is `line(1)`. Resolves when all are acknowledged. */
export async function chatter(page, count, line) {
  for (let at = 1; at <= count; at += 40) {
    const lines = Array.from({ length: Math.min(40, count - at + 1) }, (_, n) => line(at + n));
    await page.evaluate(async (lines) => {
      const box = document.querySelector("textarea");
      for (const text of lines) {
        box.value = text;
        box.dispatchEvent(new Event("input", { bubbles: true }));
        box.form.requestSubmit();
        // The box is emptied in between, as it is under a hand.
        await new Promise((next) => setTimeout(next, 4));
      }
    }, lines);
    // A line stands on the screen only once it is kept: none that waits may be none that was begun.
    await until("the lines are acknowledged", () =>
      page.evaluate((last) => {
        const own = [...document.querySelectorAll(".own .bubble")];
        return own.at(-1)?.textContent === last && !document.querySelector(".waiting");
      }, lines.at(-1)),
    );
  }
}

/** Somebody who is signed in, asking the JSON API. */
export class Office {
  static async enter(lodge, { login, password }) {
    const office = new Office();
    office.address = lodge.address;
    const answer = await fetch(`${lodge.address}/api/v1/login`, office.#asked("POST", { login, password }));
    if (!answer.ok) throw new Error(`sign-in was refused: ${answer.status} ${await answer.text()}`);
    office.cookie = answer.headers.getSetCookie()[0].split(";")[0];
    return office;
  }

  async ask(method, where, body) {
    const answer = await fetch(`${this.address}/api/v1/${where}`, this.#asked(method, body));
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${where}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  #asked(method, body) {
    const headers = { "x-lodge": "1", origin: this.address };
    if (this.cookie) headers.cookie = this.cookie;
    if (body !== undefined) headers["content-type"] = "application/json";
    return { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  }
}

/** Overrides what careless or hostile pages override; and hides, turns, shrinks and covers whatever it finds. */
const HOSTILE = `<script>
JSON.parse = JSON.stringify = () => "no";
window.fetch = window.XMLHttpRequest = () => { throw 1 };
window.Promise = function () { throw 1 };
for (const name of Object.getOwnPropertyNames(Array.prototype)) if (name !== "constructor" && name !== "length") try { Array.prototype[name] = () => { throw 1 } } catch {}
Object.prototype[0] = "lodge"; Object.prototype[1] = "forget"; Object.prototype.kind = "bad"; Object.prototype.get = () => "bad";
</script>`;
const COVERED = `<style>
body *, iframe { display: none !important; opacity: 0 !important; width: 1px !important; pointer-events: none !important; z-index: -1 !important; position: static !important }
iframe { filter: blur(9px) !important; transform: rotate(9deg) !important; clip-path: inset(50%) !important; visibility: hidden !important; inset: auto !important }
body { transform: scale(.1); overflow: hidden } #top { position: fixed; inset: 0; z-index: 2147483646; background: #fee }
</style><div id="top"></div>`;

const BODY = `<h1>Boots for long winters</h1><p>${"Hand-welted, resoleable, and made to be kept for decades rather than seasons. ".repeat(14)}</p>`;

/** A shop on an origin of its own. `/strict` has a policy that allows the widget and nothing else. */
export class Shop {
  static async open() {
    const shop = new Shop();
    shop.server = http.createServer((request, response) => shop.#answer(request, response));
    shop.server.listen(0, "127.0.0.1");
    await once(shop.server, "listening");
    shop.address = `http://localhost:${shop.server.address().port}`;
    return shop;
  }

  /** Whose widget the pages carry, and what they say before it. */
  carry(lodge, app, { host = "", lang = "en" } = {}) {
    Object.assign(this, { lodge, app, host, lang });
  }

  #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, "http://shop");
    const widget = this.lodge.address;
    const headers = { "content-type": "text/html; charset=utf-8" };
    if (pathname === "/strict") {
      headers["content-security-policy"] = `default-src 'none'; script-src ${widget}; frame-src ${widget}; base-uri 'none'; require-trusted-types-for 'script'`;
    }
    const dark = searchParams.has("dark") ? "background:#101214;color:#ccc" : "background:#fff;color:#333";
    const style = pathname === "/strict" ? "" : `<style>body{font:16px/1.6 Georgia,serif;margin:0;padding:8vh max(24px,calc(50% - 22rem));min-height:100vh;box-sizing:border-box;${dark}}h1{font-size:2.4rem;line-height:1.2}</style>`;
    const host = this.host && pathname === "/host" ? `<script>${this.host}</script>` : "";
    response.writeHead(200, headers);
    response.end(`<!doctype html><html lang="${this.lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Shop</title>
${pathname === "/hostile" ? HOSTILE : ""}${["/hostile", "/covered"].includes(pathname) ? COVERED : ""}${style}${host}${BODY}
<script src="${widget}/widget.js" data-app="${this.app}" async></script></html>`);
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
