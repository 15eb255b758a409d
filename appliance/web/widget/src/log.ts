/**
 * The log on the screen: lines made from the timeline, kept in step with it without rebuilding what did
 * not change.
 *
 * Invariants: a line keeps its element from "sending" to "read"; what a person wrote is set as text; the
 * reader's place does not jump when older lines come in above.
 */
import type { Client, Entry, EntryBody, Item, Pending } from "@lodge/client";
import { el, icon, setText } from "./dom";
import { linked } from "./links";
import type { Pictures } from "./pictures";
import { midnight, type Words } from "./words";

/** Lines of one author belong together while they follow each other within this. */
const GROUP_MS_MAX = 5 * 60_000;
/** Larger pictures are shown when they are asked for. */
const PICTURE_BYTES_MAX = 6_000_000;
/** Within this of its end the log counts as read to the end, and follows. */
const END_PX = 48;
/** Older lines are asked for before the first one is reached. */
const TOP_PX = 240;
const PICTURE_PX_MAX = 240;

export interface LogNeeds {
  client: Client;
  words: Words;
  pictures: Pictures;
  imageTypes: () => readonly string[];
  onlink: (url: string, event: Event) => void;
  onpicture: (address: string, name: string) => void;
  onfile: (entry: Entry, name: string) => void;
  onread: () => void;
}

interface Line {
  key: string;
  /** What the element is made of; another one means another element. */
  made: string;
  build: () => HTMLElement;
  update?: (element: HTMLElement) => void;
}

type FileBody = Extract<EntryBody, { kind: "file" }>;

export class Log {
  readonly element: HTMLElement;
  private readonly list: HTMLElement;
  private readonly greeting: HTMLElement;
  private readonly dots: HTMLElement;
  private readonly jump: HTMLButtonElement;
  private readonly lines = new Map<string, { made: string; element: HTMLElement }>();
  private atEnd = true;
  private paging = false;
  private more = true;
  private readonly shares = new Map<number, number>();

  constructor(private readonly needs: LogNeeds) {
    const { words } = needs;
    this.greeting = el("div", "greeting");
    this.list = el("div", "lines", { role: "log", "aria-live": "polite", "aria-label": words.say("messages") });
    this.dots = el("div", "dots", { "aria-hidden": "true", hidden: true }, el("i", ""), el("i", ""), el("i", ""));
    this.element = el("div", "log", { tabindex: "0" }, this.greeting, this.list, this.dots);
    this.jump = el("button", "jump", { type: "button", hidden: true }, icon("down"), el("span", ""));
    this.jump.addEventListener("click", () => this.toEnd(true));
    this.element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    // A keyboard that opens, a box that grows with what is written: the end stays the end.
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(this.element);
  }

  get jumpButton(): HTMLButtonElement {
    return this.jump;
  }

  get isAtEnd(): boolean {
    return this.atEnd;
  }

  greet(text: string): void {
    setText(this.greeting, text);
  }

  typing(on: boolean): void {
    this.dots.hidden = !on;
    if (this.atEnd) this.toEnd();
  }

  progress(key: number, share: number): void {
    this.shares.set(key, share);
    const line = this.lines.get(`draft ${key}`);
    line?.element.style.setProperty("--share", String(share));
  }

  /** New lines, changed ones, and those that went. */
  render(): void {
    const items = this.needs.client.timeline();
    const anchor = this.atEnd ? undefined : this.firstSeen();
    const top = anchor?.offsetTop ?? 0;
    this.greeting.hidden = items.some((item) => isMessage(item) && !this.isOwn(item));
    const wanted = this.linesOf(items);
    const keep = new Set(wanted.map((line) => line.key));
    for (const [key, { element }] of this.lines) {
      if (keep.has(key)) continue;
      element.remove();
      this.lines.delete(key);
    }
    let next = this.list.firstElementChild;
    for (const line of wanted) {
      let held = this.lines.get(line.key);
      if (!held || held.made !== line.made) {
        const element = line.build();
        if (held) {
          if (next === held.element) next = element;
          held.element.replaceWith(element);
        }
        this.lines.set(line.key, (held = { made: line.made, element }));
      }
      line.update?.(held.element);
      if (held.element === next) next = next.nextElementSibling;
      else this.list.insertBefore(held.element, next);
    }
    if (anchor?.isConnected) this.element.scrollTop += anchor.offsetTop - top;
    if (this.atEnd) this.toEnd();
    else this.setJump();
  }

  toEnd(smooth = false): void {
    this.atEnd = true;
    this.element.scrollTo({ top: this.element.scrollHeight, behavior: smooth && !calm() ? "smooth" : "auto" });
    this.setJump();
    this.needs.onread();
  }

  private scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    this.atEnd = scrollHeight - scrollTop - clientHeight < END_PX;
    if (this.atEnd) this.needs.onread();
    this.setJump();
    if (scrollTop < TOP_PX) void this.page();
  }

  /** The line that is being read: it stays where it is, whatever comes in above. */
  private firstSeen(): HTMLElement | undefined {
    const top = this.element.scrollTop;
    for (const { element } of this.lines.values()) {
      if (element.offsetTop >= top && element.classList.contains("message")) return element;
    }
    return undefined;
  }

  /** Fetches what is older. */
  private async page(): Promise<void> {
    const { client } = this.needs;
    if (this.paging || !this.more || !client.current || client.status !== "connected") return;
    this.paging = true;
    this.element.classList.add("paging");
    this.more = await client.history();
    this.paging = false;
    this.element.classList.remove("paging");
  }

  private setJump(): void {
    const { client, words } = this.needs;
    this.jump.hidden = this.atEnd;
    const count = this.atEnd ? 0 : unread(client);
    setText(this.jump.lastElementChild as Element, count ? words.say("unread", { count: String(count) }) : "");
    this.jump.setAttribute("aria-label", words.say("newer"));
  }

  // ---- lines ------------------------------------------------------------------------------------

  private linesOf(items: Item[]): Line[] {
    const { words } = this.needs;
    const lines: Line[] = [];
    const now = Date.now();
    const newest = this.newestOwn(items);
    let day = NaN;
    let before: Item | undefined;
    items.forEach((item, index) => {
      if (!isShown(item)) return;
      const at = timeOf(item);
      if (midnight(at) !== day) {
        day = midnight(at);
        const text = words.day(at, now);
        lines.push({ key: `day ${day}`, made: text, build: () => el("div", "day", {}, el("span", "", {}, text)) });
        before = undefined;
      }
      const note = this.noteOf(item);
      if (note !== null) {
        lines.push({ key: item.key, made: note, build: () => el("div", "note", {}, note) });
        before = undefined;
        return;
      }
      const first = !before || !this.together(before, item);
      const after = items.slice(index + 1).find(isShown);
      const last = !after || !isMessage(after) || !this.together(item, after) || midnight(timeOf(after)) !== day;
      lines.push(this.messageOf(item, first, last, item === newest ? this.reached(item) : ""));
      before = item;
    });
    return lines;
  }

  private together(a: Item, b: Item): boolean {
    return this.authorOf(a) === this.authorOf(b) && timeOf(b) - timeOf(a) < GROUP_MS_MAX;
  }

  private authorOf({ entry }: Item): string {
    return entry?.author ?? this.needs.client.self;
  }

  private isOwn(item: Item): boolean {
    return this.authorOf(item) === this.needs.client.self;
  }

  /** What the house says in between, or null for a message. */
  private noteOf({ entry }: Item): string | null {
    const { client, words } = this.needs;
    const body = entry?.body;
    if (!body || body.kind === "text" || body.kind === "file") return null;
    if (body.kind === "joined") {
      const name = client.persons.get((body as { agent: string }).agent)?.name ?? "";
      return words.say("joined", { name });
    }
    if (body.kind === "closed" || body.kind === "reopened") return words.say(body.kind);
    return words.say("unknown");
  }

  private messageOf(item: Item, first: boolean, last: boolean, reached: string): Line {
    const { client, words } = this.needs;
    const own = this.isOwn(item);
    const author = client.persons.get(this.authorOf(item));
    const name = own ? words.say("you") : (author?.name ?? "");
    const content = this.contentOf(item);
    return {
      key: item.key,
      made: `${content.made} ${name}`,
      build: () => {
        const bubble = el("div", `bubble ${content.look}`, { dir: "auto" });
        content.fill(bubble);
        const face = own ? "" : el("div", "face", { "aria-hidden": "true" }, initials(name));
        const said = el("span", "hidden", {}, `${name}: `);
        // The log is read out as it grows; times and marks that change in it are not.
        const meta = el("div", "meta", { "aria-live": "off" });
        return el("div", "message", {}, face, el("div", "column", {}, said, bubble, meta));
      },
      update: (element) => {
        const pending = item.pending;
        const refused = pending?.refused;
        const way = refused ? "refused" : pending && !item.accepted ? "waiting" : item.entry?.gone ? "gone" : "";
        element.className = `message ${own ? "own" : "theirs"} ${first ? "first" : ""} ${last ? "last" : ""} ${way}`;
        const share = pending ? this.shares.get(pending.key) : undefined;
        if (share !== undefined) element.style.setProperty("--share", String(share));
        this.setMeta(element.querySelector(".meta") as HTMLElement, item, last, reached);
      },
    };
  }

  /** Under a message: when it was said and how far it has got, or why it was not and what can be done. */
  private setMeta(meta: HTMLElement, { entry, pending }: Item, last: boolean, reached: string): void {
    const { client, words } = this.needs;
    const refused = pending?.refused;
    const time = last || reached ? words.time(entry?.time_ms ?? pending?.made_ms ?? 0) : "";
    const state = refused ? `no ${refused.code}` : entry?.gone ? "gone" : reached ? `${time} · ${reached}` : time;
    if (meta.dataset.state === state) return;
    meta.dataset.state = state;
    meta.replaceChildren();
    if (refused && pending) {
      const again = el("button", "link", { type: "button" }, words.say("try_again"));
      const remove = el("button", "link", { type: "button" }, words.say("remove"));
      again.addEventListener("click", () => void client.retry(pending.key));
      remove.addEventListener("click", () => void client.discard(pending.key));
      const why = words.say("not_sent", { why: words.refusal(refused.code, refused.text) });
      meta.append(el("span", "why", {}, why), again, remove);
    } else if (entry?.gone) meta.append(words.say("gone"));
    else meta.append(state);
  }

  private contentOf({ key, entry, pending }: Item): { made: string; look: string; fill: (bubble: HTMLElement) => void } {
    const { words } = this.needs;
    const body = entry?.body ?? pending?.body;
    if (body?.kind === "text") {
      const { text } = body as { text: string };
      const look = isOnlyEmoji(text) ? "text emoji" : "text";
      return { made: "text", look, fill: (bubble) => bubble.append(...linked(text, this.needs.onlink)) };
    }
    const file = pending?.file;
    const name = file?.name ?? (body as { name?: string } | undefined)?.name ?? "";
    const mime = (entry?.body as FileBody | undefined)?.mime ?? file?.blob.type ?? "";
    const size = (entry?.body as FileBody | undefined)?.size ?? file?.blob.size ?? 0;
    const held = entry?.body as FileBody | undefined;
    const caption = held?.caption ?? file?.caption ?? "";
    if (this.needs.imageTypes().includes(mime) && size <= PICTURE_BYTES_MAX) {
      return {
        made: `picture ${name}`,
        look: "picture",
        fill: (bubble) => this.fillPicture(bubble, key, name, caption, entry, pending),
      };
    }
    return {
      made: `file ${name} ${entry ? 1 : 0}`,
      look: "file",
      fill: (bubble) => {
        const button = el(
          "button",
          "card",
          { type: "button", disabled: !entry, "aria-label": words.say("download", { name }) },
          icon("file"),
          el("span", "name", {}, el("b", "", { dir: "auto" }, name), el("small", "", {}, words.size(size))),
          icon("save"),
        );
        if (entry) button.addEventListener("click", () => this.needs.onfile(entry, name));
        bubble.append(button);
        if (caption) bubble.append(el("p", "caption", {}, ...linked(caption, this.needs.onlink)));
      },
    };
  }

  /** The room of a picture is there before its bytes, so that nothing jumps when they come. */
  private fillPicture(bubble: HTMLElement, key: string, name: string, caption: string, entry?: Entry, pending?: Pending): void {
    const { words, pictures } = this.needs;
    const image = el("img", "", { alt: words.say("image", { name }), decoding: "async" });
    const button = el("button", "frame", { type: "button", "aria-label": words.say("view", { name }) }, image);
    const body = entry?.body as FileBody | undefined;
    if (body?.width && body.height) {
      const scale = Math.min(1, PICTURE_PX_MAX / body.width, (PICTURE_PX_MAX * 1.3) / body.height);
      button.style.width = `${Math.max(48, Math.round(body.width * scale))}px`;
      button.style.aspectRatio = `${body.width} / ${body.height}`;
    }
    const address = () =>
      pending?.file ? pictures.ofBlob(key, pending.file.blob) : entry ? pictures.ofEntry(key, entry) : Promise.reject(new Error());
    const load = () =>
      address().then(
        (found) => {
          image.src = found;
          button.classList.remove("broken");
        },
        () => button.classList.add("broken"),
      );
    image.addEventListener("load", () => {
      button.classList.add("loaded");
      if (this.atEnd) this.toEnd();
    });
    // The address may have been let go of since; then the bytes are fetched once more.
    image.addEventListener("error", () => button.classList.add("broken"));
    button.addEventListener("click", () => void address().then((found) => this.needs.onpicture(found, name), load));
    whenSeen(button, () => void load());
    bubble.append(button);
    if (caption) bubble.append(el("p", "caption", {}, ...linked(caption, this.needs.onlink)));
  }

  /** The last message, if it is our own: what was answered needs no word about how far it got. */
  private newestOwn(items: Item[]): Item | undefined {
    for (let index = items.length - 1; index >= 0; index -= 1) {
      const item = items[index] as Item;
      if (isMessage(item)) return this.isOwn(item) ? item : undefined;
    }
    return undefined;
  }

  private reached(item: Item): string {
    const { client, words } = this.needs;
    if (item.pending) return item.pending.refused ? "" : words.say(item.accepted ? "sent" : "sending");
    const { conversation, seq } = item.entry;
    const others = Object.entries(client.conversations.get(conversation)?.marks ?? {}).filter(([id]) => id !== client.self);
    const far = (mark: "read" | "delivered") => others.some(([, marks]) => marks[mark] >= seq);
    return words.say(far("read") ? "read" : far("delivered") ? "delivered" : "sent");
  }
}

/** Messages of others that were not read yet. */
export function unread(client: Client): number {
  const { current } = client;
  if (!current) return 0;
  const { read } = client.ownMark(current.id);
  return client.timeline().filter(({ entry }) => entry && entry.seq > read && entry.author !== client.self && isText(entry)).length;
}

const isText = ({ body }: Entry) => body.kind === "text" || body.kind === "file";
const isMessage = ({ entry, pending }: Item) => pending !== undefined || isText(entry);
const timeOf = ({ entry, pending }: Item) => entry?.time_ms ?? pending?.made_ms ?? 0;

/** What a visitor has no use for: that a conversation began, and drafts that say nothing. */
function isShown({ entry, pending }: Item): boolean {
  return entry ? entry.body.kind !== "opened" && entry.body.kind !== "assigned" : pending.body?.kind !== "close";
}

function initials(name: string): string {
  const letters = [...name.trim()];
  if (/[\u3040-\u9fff\uac00-\ud7af]/.test(name)) return letters.slice(-2).join("");
  const words = name.trim().split(/\s+/);
  return (([...(words[0] ?? "")][0] ?? "") + (words.length > 1 ? ([...(words[words.length - 1] ?? "")][0] ?? "") : "")).toUpperCase();
}

function isOnlyEmoji(text: string): boolean {
  return text.length <= 24 && /^(?:\p{Extended_Pictographic}|\p{Emoji_Component}|\s)+$/u.test(text) && !/[\d#*]/.test(text);
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function whenSeen(element: Element, then: () => void): void {
  const observer = new IntersectionObserver(
    (seen) => {
      if (!seen.some((one) => one.isIntersecting)) return;
      observer.disconnect();
      then();
    },
    { rootMargin: "400px" },
  );
  observer.observe(element);
}
