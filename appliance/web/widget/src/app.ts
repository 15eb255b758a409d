/**
 * The chat itself, on a page of its own or in the frame that the loader made.
 *
 * Invariants: nothing is stored and nothing connects before the visitor opens the chat, has a conversation
 * that goes on, or the site asked for presence; the host learns only what the bridge names.
 */
import { connect, RefusedError, type Entry } from "@lodge/client";
import { Bridge, readOpening } from "./bridge";
import { accent } from "./colour";
import { Composer } from "./composer";
import { el, icon, setText } from "./dom";
import { Log, unread } from "./log";
import { Pictures } from "./pictures";
import { Words, type Wording } from "./words";

const QUIET_MS = 3_000;
const TOAST_MS = 6_000;
const IMAGE_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

const opening = readOpening();
const app = decodeURIComponent(/^\/chat\/([^/]+)/.exec(location.pathname)?.[1] ?? "");
const words = new Words([opening.language, ...navigator.languages].filter(Boolean));
const bridge = new Bridge(opening, {
  open: () => open(),
  close: () => shut(),
  identity: () => client.identify(),
  forget: () => void forget(),
});
const client = connect(
  { server_url: location.origin, app_id: app, identity: () => bridge.identity(), page: opening.page || document.referrer },
  { start: false },
);
const pictures = new Pictures(client);
const seen = `lodge ${app}`;
const limits = { image_types: IMAGE_TYPES, upload_bytes_max: 25 * 1024 * 1024 };
let isOpen = !bridge.framed;
let reachable = true;
let typist = "";
let side: "left" | "right" = "right";

// ---- the furniture ------------------------------------------------------------------------------

const root = document.getElementById("lodge") ?? document.body.appendChild(el("div", "", { id: "lodge" }));
const bubbleCount = el("span", "count", { hidden: true });
const bubble = el("button", "bubble-button", { type: "button", "aria-label": words.say("open"), hidden: true }, icon("chat"), bubbleCount);
const face = el("div", "portrait", { "aria-hidden": "true" });
const title = el("h1", "title", { dir: "auto" });
const subtitle = el("p", "subtitle", { role: "status" });
const closer = el("button", "round quiet", { type: "button", "aria-label": words.say("close"), title: words.say("close") }, icon("close"));
const notice = el("div", "notice", { role: "status", hidden: true });
const veil = el("div", "veil", { hidden: true, "aria-hidden": "true" }, words.say("drop"));
const toast = el("div", "toast", { role: "alert", hidden: true });

const log = new Log({
  client,
  words,
  pictures,
  imageTypes: () => limits.image_types,
  onlink: (url, event) => {
    if (!bridge.takes("link")) return;
    event.preventDefault();
    bridge.say("link", url);
  },
  onpicture: (address, name) => show(address, name),
  onfile: (entry, name) => void save(entry, name),
  onread: () => read(),
});
const composer = new Composer({
  words,
  onsend: async (text) => {
    try {
      await client.send(text);
      log.toEnd();
    } catch (thrown) {
      if (thrown instanceof RefusedError) say(words.refusal(thrown.code, thrown.text));
      throw thrown;
    }
  },
  onfiles: (files) => void send(files),
  ontyping: (on) => client.typing(on),
});
const panel = el(
  "main",
  "panel",
  { hidden: true },
  el("header", "head", {}, face, el("div", "names", {}, title, subtitle), bridge.framed || bridge.takes("close") ? closer : ""),
  notice,
  el("div", "middle", {}, log.element, log.jumpButton, toast),
  composer.element,
  veil,
);
root.append(bubble, panel);
document.documentElement.lang = words.language;
document.documentElement.classList.toggle("framed", bridge.framed);
composer.takeDrops(panel, veil);

bubble.addEventListener("click", () => open());
closer.addEventListener("click", () => shut());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) shut();
});
document.addEventListener("visibilitychange", () => read());
window.addEventListener("focus", () => read());
// A file that misses the panel must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

// ---- opening and closing --------------------------------------------------------------------------

function open(): void {
  if (!isOpen) {
    isOpen = true;
    bridge.say("shape", "panel", side);
  }
  remember();
  bubble.hidden = true;
  panel.hidden = false;
  render();
  log.toEnd();
  void client.open();
  // On a phone the keyboard would cover the greeting before it was read.
  if (matchMedia("(pointer: fine)").matches) composer.box.focus();
}

function shut(): void {
  bridge.say("closed");
  if (!bridge.framed || !isOpen) return;
  isOpen = false;
  panel.hidden = true;
  bubble.hidden = false;
  bridge.say("shape", "bubble", side);
  client.typing(false);
  bubble.focus();
  count();
}

/** Whoever was here before is a stranger again. */
async function forget(): Promise<void> {
  shut();
  try {
    localStorage.removeItem(seen);
  } catch {
    // Nothing was stored then.
  }
  await client.forget();
  render();
  if (!bridge.framed) open();
}

function remember(): void {
  try {
    localStorage.setItem(seen, "1");
  } catch {
    // A browser that forbids storage gets a conversation that ends with the page.
  }
}

function wasHere(): boolean {
  try {
    return localStorage.getItem(seen) !== null;
  } catch {
    return false;
  }
}

// ---- what is shown --------------------------------------------------------------------------------

let due = false;
/** Once for everything that changes in one turn. Not an animation frame: those stand still in a hidden page. */
function render(): void {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    head();
    log.render();
    count();
  });
}

function head(): void {
  const agent = client.persons.get(client.current?.assignee ?? "") ?? client.persons.get(lastAgent());
  setText(title, agent?.name || words.own.title || words.say("title"));
  face.classList.toggle("on", agent ? agent.online : reachable);
  if (agent) setText(face, [...agent.name][0]?.toUpperCase() ?? "");
  else if (!face.firstElementChild) face.replaceChildren(icon("chat"));
  const name = client.persons.get(typist)?.name ?? "";
  const state = agent ? (agent.online ? "online" : "offline") : reachable ? "here" : "not_here";
  setText(subtitle, typist ? words.say("typing", { name }) : words.say(state));
  log.greet(words.say(reachable ? "greeting" : "away"));
  log.typing(typist !== "");
}

/** The agent who spoke last, where nobody is assigned. */
function lastAgent(): string {
  const items = client.timeline();
  for (let index = items.length - 1; index >= 0; index -= 1) {
    const author = items[index]?.entry?.author ?? "";
    if (client.persons.get(author)?.kind === "agent") return author;
  }
  return "";
}

let told = -1;
function count(): void {
  const number = unread(client);
  bubbleCount.hidden = number === 0;
  setText(bubbleCount, number > 99 ? "99+" : String(number));
  bubble.setAttribute("aria-label", number ? `${words.say("open")}, ${words.say("unread", { count: String(number) })}` : words.say("open"));
  if (!bridge.framed) document.title = (number ? `(${number}) ` : "") + (words.own.title || words.say("title"));
  if (number !== told) bridge.say("unread", (told = number));
}

function read(): void {
  const { current } = client;
  if (!isOpen || document.hidden || !log.isAtEnd || !current) return;
  const items = client.timeline();
  for (let index = items.length - 1; index >= 0; index -= 1) {
    const entry = items[index]?.entry;
    if (!entry || entry.gone) continue;
    client.read_up_to(entry.seq);
    break;
  }
  count();
}

let quiet: ReturnType<typeof setTimeout> | undefined;
let warned = "";
/** A short break is nobody's business; a longer one is said quietly. */
function connection(): void {
  clearTimeout(quiet);
  const { status, refusal } = client;
  // For whoever wrote the page: a token that is not good makes its bearer a stranger, which nobody else notices.
  if (refusal && refusal.text !== warned) console.warn(`Lodge: ${(warned = refusal.text)}`);
  if (status === "connected" || status === "idle") notice.hidden = true;
  else if (status === "connecting" || status === "waiting") quiet = setTimeout(() => warn(navigator.onLine === false ? "no_connection" : "connecting"), QUIET_MS);
  else if (status === "elsewhere") {
    const here = el("button", "link", { type: "button" }, words.say("use_here"));
    here.addEventListener("click", () => client.takeOver());
    notice.replaceChildren(words.say("elsewhere"), " ", here);
    notice.hidden = false;
  } else if (status === "login") warn("sign_in");
  else {
    notice.replaceChildren(refusal ? words.refusal(refusal.code, refusal.text) : "");
    notice.hidden = false;
  }
}

function warn(word: "connecting" | "no_connection" | "sign_in"): void {
  notice.replaceChildren(words.say(word));
  notice.hidden = false;
}

let fading: ReturnType<typeof setTimeout> | undefined;
function say(text: string): void {
  setText(toast, text);
  toast.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (toast.hidden = true), TOAST_MS);
}

// ---- files ----------------------------------------------------------------------------------------

async function send(files: File[]): Promise<void> {
  for (const file of files) {
    if (file.size > limits.upload_bytes_max) {
      say(words.say("too_large", { name: file.name, size: words.size(limits.upload_bytes_max) }));
      continue;
    }
    try {
      await client.sendFile(file, file.name || "file");
    } catch (thrown) {
      if (thrown instanceof RefusedError) say(words.refusal(thrown.code, thrown.text));
    }
  }
  log.toEnd();
}

async function save(entry: Entry, name: string): Promise<void> {
  try {
    const blob = await client.file(entry);
    if (bridge.takes("file")) bridge.say("file", name, blob.type, await base64(blob));
    else {
      const address = URL.createObjectURL(blob);
      el("a", "", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    }
  } catch {
    say(words.say("not_loaded"));
  }
}

function base64(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => reject(new Error("unreadable"));
    reader.readAsDataURL(blob);
  });
}

/** A picture as large as the chat. */
function show(address: string, name: string): void {
  const out = el("button", "round", { type: "button", "aria-label": words.say("close") }, icon("close"));
  const keep = el("a", "round", { href: address, download: name, "aria-label": words.say("download", { name }) }, icon("save"));
  const dialog = el(
    "dialog",
    "light-box",
    { "aria-label": words.say("image", { name }) },
    el("div", "tools", {}, bridge.takes("file") ? "" : keep, out),
    el("img", "", { src: address, alt: words.say("image", { name }) }),
  );
  dialog.addEventListener("click", (event) => {
    if (!(event.target as Element).closest("a, img")) dialog.close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// ---- the site ---------------------------------------------------------------------------------------

/** What the site chose; whatever is missing or misshapen is ours. */
function dress(site: Record<string, unknown>): void {
  const texts = (site.texts as Record<string, Wording> | undefined)?.[words.language];
  words.own = { title: String(site.name || ""), ...withoutEmpty(texts) };
  composer.name(words.say("placeholder"));
  side = site.bubble === "left" ? "left" : "right";
  reachable = site.reachable !== false;
  const given = site.limits as Partial<typeof limits> | undefined;
  if (Array.isArray(given?.image_types)) limits.image_types = given.image_types.filter((type) => IMAGE_TYPES.includes(type));
  if (typeof given?.upload_bytes_max === "number") limits.upload_bytes_max = given.upload_bytes_max;
  const colours = accent(String(site.colour));
  if (!colours) return;
  const { style } = document.documentElement;
  style.setProperty("--accent", colours.ground);
  style.setProperty("--accent-ink", colours.ink);
  style.setProperty("--accent-on-light", colours.onLight);
  style.setProperty("--accent-on-dark", colours.onDark);
}

function withoutEmpty(texts: Wording | undefined): Wording {
  return Object.fromEntries(Object.entries(texts ?? {}).filter(([, text]) => typeof text === "string" && text)) as Wording;
}

/** A phone's keyboard takes its room from the visible part of a page, not from the page. */
function followKeyboard(): void {
  const view = window.visualViewport;
  if (!view || bridge.framed) return;
  const fit = () => {
    const { style } = document.documentElement;
    style.setProperty("--room", `${view.height}px`);
    style.setProperty("--top", `${view.offsetTop}px`);
    if (log.isAtEnd) log.toEnd();
  };
  view.addEventListener("resize", fit);
  view.addEventListener("scroll", fit);
  fit();
}

client.on((event) => {
  if (event.type === "status") connection();
  else if (event.type === "progress") log.progress(event.key, event.sent / Math.max(event.total, 1));
  else if (event.type === "typing") {
    typist = event.on ? event.person : typist === event.person ? "" : typist;
    render();
  } else {
    if (event.type === "entries" && event.entries.some((entry) => entry.author === typist)) typist = "";
    render();
  }
});
window.addEventListener("online", connection);
window.addEventListener("offline", connection);

async function start(): Promise<void> {
  followKeyboard();
  composer.name(words.say("placeholder"));
  if (isOpen) open();
  let site: Record<string, unknown> = {};
  try {
    site = await client.site();
  } catch (thrown) {
    if (thrown instanceof RefusedError) {
      // The operator finds here which origin was refused and which setting would allow it.
      console.warn(`Lodge: ${thrown.text}`);
      if (bridge.framed) return;
    }
  }
  dress(site);
  render();
  bridge.say("ready");
  if (!bridge.framed || isOpen) return;
  bubble.hidden = false;
  bridge.say("shape", "bubble", side);
  if (site.presence === true) return void client.open();
  if (!wasHere()) return;
  await client.load();
  if (client.current?.state === "open" || client.outbox.length) void client.open();
}

void start();
