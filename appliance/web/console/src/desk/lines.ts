// From entries to what stands on the screen: days, facts, and speech in groups. Pure.
import type { Entry, Held, Person } from "../desk.svelte";
import { dayOf } from "../says";

/** Messages of one author closer than this stand together under one time. */
const TOGETHER_MS = 5 * 60_000;

export type Side = "theirs" | "mine" | "house";
export type Line =
  | { is: "day"; key: string; ms: number }
  | { is: "seam"; key: string }
  | { is: "fact"; key: string; entry: Entry }
  | { is: "said"; key: string; entry: Entry; side: Side; first: boolean; last: boolean };

export function lines(held: Held[], more: boolean, seam: number, people: ReadonlyMap<string, Person>, isSelf: (id: string) => boolean): Line[] {
  // Facts of the staff lane from before the oldest loaded message wait until it is paged in.
  const from = more ? (held.find(({ entry }) => entry.lane === "public")?.entry.position ?? 0) : 0;
  const shown: Line[] = [];
  let seamed = seam === 0;
  let before: Entry | null = null;
  let open = null as Extract<Line, { is: "said" }> | null;
  for (const { key, entry } of held) {
    if (entry.position < from) continue;
    if (!before || dayOf(before.time_ms) !== dayOf(entry.time_ms)) {
      shown.push({ is: "day", key: `day/${dayOf(entry.time_ms)}/${key}`, ms: entry.time_ms });
      open = null;
    }
    const spoken = entry.body.kind === "text" || entry.body.kind === "file" || typeof entry.body.kind === "number";
    if (!spoken) {
      shown.push({ is: "fact", key, entry });
      open = null;
    } else {
      if (!seamed && entry.lane === "public" && entry.seq > seam && people.get(entry.author)?.kind === "visitor") {
        shown.push({ is: "seam", key: "seam" });
        seamed = true;
        open = null;
      }
      const side: Side = people.get(entry.author)?.kind === "visitor" ? "theirs" : isSelf(entry.author) ? "mine" : "house";
      const joins: boolean = open !== null && open.side === side && open.entry.author === entry.author && entry.time_ms - open.entry.time_ms < TOGETHER_MS;
      if (joins && open) open.last = false;
      open = { is: "said", key, entry, side, first: !joins, last: true };
      shown.push(open);
    }
    before = entry;
  }
  return shown;
}

/** Text in pieces, so that an address can be clicked without any markup ever being made from text. */
export function pieces(text: string): { text: string; href: string | null }[] {
  const found: { text: string; href: string | null }[] = [];
  let at = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"'，。；！？、（）《》「」]+/gu)) {
    const address = match[0].replace(/[.,;:!?)\]}]+$/u, "");
    if (!URL.canParse(address)) continue;
    if (match.index > at) found.push({ text: text.slice(at, match.index), href: null });
    found.push({ text: address, href: address });
    at = match.index + address.length;
  }
  if (at < text.length) found.push({ text: text.slice(at), href: null });
  return found;
}

const SHOWN = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
/** The kinds of picture that the server hands out to be shown, not only to be saved. */
export function showable(mime: string): boolean {
  return SHOWN.has(mime);
}
