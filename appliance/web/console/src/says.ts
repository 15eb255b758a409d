// How times, sizes and names are written. Pure: the language and the present moment are arguments.
import type { Words } from "./words/en";
import type { Language } from "./place.svelte";

const DAY_MS = 86_400_000;
const formats = new Map<string, Intl.DateTimeFormat>();

function format(language: Language, key: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const name = `${language}/${key}`;
  let found = formats.get(name);
  if (!found) {
    found = new Intl.DateTimeFormat(language === "zh" ? "zh-CN" : "en-GB", options);
    formats.set(name, found);
  }
  return found;
}

/** 14:05 */
export function clock(ms: number, language: Language): string {
  return format(language, "clock", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(ms);
}

/** The moment in full, for a tooltip. */
export function moment(ms: number, language: Language): string {
  return format(language, "moment", { dateStyle: "full", timeStyle: "medium" }).format(ms);
}

/** Which day of the reader's own calendar. */
export function dayOf(ms: number): number {
  const date = new Date(ms);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY_MS;
}

/** Today, Yesterday, Monday 3 November. */
export function day(ms: number, now_ms: number, language: Language, words: Words): string {
  const ago = dayOf(now_ms) - dayOf(ms);
  if (ago === 0) return words.today;
  if (ago === 1) return words.yesterday;
  const sameYear = new Date(ms).getFullYear() === new Date(now_ms).getFullYear();
  return sameYear
    ? format(language, "day", { weekday: "long", day: "numeric", month: "long" }).format(ms)
    : format(language, "date", { day: "numeric", month: "long", year: "numeric" }).format(ms);
}

/** As short as a row of the list has room for. */
export function shortly(ms: number, now_ms: number, language: Language, words: Words): string {
  const ago = dayOf(now_ms) - dayOf(ms);
  if (ago <= 0) return clock(ms, language);
  if (ago === 1) return words.yesterday;
  if (ago < 7) return format(language, "weekday", { weekday: "short" }).format(ms);
  return format(language, "short", { day: "numeric", month: "short" }).format(ms);
}

/** 4 min, 2 h */
export function span(ms: number, language: Language): string {
  const minutes = Math.max(1, Math.floor(ms / 60_000));
  const [value, unit] = minutes < 60 ? [minutes, "minute"] : minutes < 1440 ? [Math.floor(minutes / 60), "hour"] : [Math.floor(minutes / 1440), "day"];
  return new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en-GB", { style: "unit", unit: unit as string, unitDisplay: "short" }).format(value as number);
}

/** 2.4 MB */
export function size(bytes: number, language: Language): string {
  const units = ["byte", "kilobyte", "megabyte"];
  let step = 0;
  let value = bytes;
  while (value >= 1000 && step < 2) { value /= 1000; step += 1; }
  return new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en-GB", {
    style: "unit", unit: units[step] ?? "byte", unitDisplay: step === 0 ? "long" : "short", maximumFractionDigits: value < 10 ? 1 : 0,
  }).format(value);
}

/** One or two characters that stand for a name. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/u).filter(Boolean);
  const first = [...(words[0] ?? "")];
  if (first.length === 0) return "";
  // A Chinese name is known by its first character; a Latin one by its initials.
  if (/\p{Script=Han}|\p{Script=Hangul}|\p{Script=Hiragana}|\p{Script=Katakana}/u.test(first[0] ?? "")) return first[0] ?? "";
  const last = words.length > 1 ? [...(words.at(-1) ?? "")][0] : undefined;
  return ((first[0] ?? "") + (last ?? "")).toUpperCase();
}

/** A hue that stays with an id. */
export function hue(id: string): number {
  let sum = 7;
  for (const char of id) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 65_521;
  return sum % 6;
}

/** An anonymous visitor still needs something to be called by: four characters of the id. */
export function called(name: string, id: string, words: Words): string {
  return name.trim() || `${words.visitor} ${id.replace(/[^0-9A-Za-z]/g, "").slice(0, 4).toUpperCase()}`;
}

/** The address without what nobody reads, and only if a click on it is harmless. */
export function page(address: string): { shown: string; href: string | null } {
  try {
    const url = new URL(address);
    if (url.protocol !== "https:" && url.protocol !== "http:") return { shown: address, href: null };
    return { shown: url.host + (url.pathname === "/" && !url.search ? "" : url.pathname + url.search), href: url.href };
  } catch {
    return { shown: address, href: null };
  }
}
