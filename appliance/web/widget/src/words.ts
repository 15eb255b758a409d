/** The widget's words: chosen once, overridden by the site's own, filled in as text. */
import { REFUSAL_TEXT_EN, REFUSAL_TEXT_ZH } from "../../../../proto/sdk/typescript/src/wire";
import en from "./words/en.json";
import zh from "./words/zh.json";

export type Word = keyof typeof en;
export type Language = "en" | "zh";

/** The words of a site, as far as it has its own. */
export type Wording = Partial<Record<"title" | "greeting" | "away" | "placeholder", string>>;

export class Words {
  readonly language: Language;
  own: Wording = {};
  private readonly table: Record<Word, string>;
  private readonly refusals: Readonly<Record<number, string>>;
  private readonly clock: Intl.DateTimeFormat;
  private readonly date: Intl.DateTimeFormat;

  constructor(asked: readonly string[]) {
    const known = asked.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag === "zh" || tag === "en");
    this.language = known === "zh" ? "zh" : "en";
    this.table = this.language === "zh" ? zh : en;
    this.refusals = this.language === "zh" ? REFUSAL_TEXT_ZH : REFUSAL_TEXT_EN;
    // A page says "en" where its reader's browser says "en-GB": the reader knows how they read a clock.
    const tag = asked.find((tag) => tag.startsWith(`${this.language}-`)) ?? this.language;
    this.clock = new Intl.DateTimeFormat(tag, { timeStyle: "short" });
    this.date = new Intl.DateTimeFormat(tag, { year: "numeric", month: "long", day: "numeric" });
  }

  say(word: Word, fill: Readonly<Record<string, string>> = {}): string {
    const text = (this.own as Partial<Record<Word, string>>)[word] || this.table[word];
    return text.replace(/\{(\w+)\}/g, (_, name: string) => fill[name] ?? "");
  }

  /** Our sentence for a number that we know, else the server's. */
  refusal(code: number, text: string): string {
    return this.refusals[code] ?? text;
  }

  time(ms: number): string {
    return this.clock.format(ms);
  }

  day(ms: number, now: number): string {
    const days = Math.round((midnight(now) - midnight(ms)) / 86_400_000);
    return days === 0 ? this.say("today") : days === 1 ? this.say("yesterday") : this.date.format(ms);
  }

  size(bytes: number): string {
    const step = bytes < 1_000 ? 0 : bytes < 999_500 ? 1 : 2;
    const amount = bytes / 1_000 ** step;
    return `${amount.toFixed(amount < 10 && step ? 1 : 0)} ${["B", "kB", "MB"][step]}`;
  }
}

export function midnight(ms: number): number {
  return new Date(ms).setHours(0, 0, 0, 0);
}
