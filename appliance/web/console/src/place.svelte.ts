// Where this person sits: language, theme, width of the window, time, and what the address bar asks for.
// Kept on this device only.
import { en, type Words } from "./words/en";
import { zh } from "./words/zh";

export type Language = "en" | "zh";
export type Theme = "auto" | "light" | "dark";
export type Route =
  | { at: "desk"; conversation: string | null }
  | { at: "settings"; page: "prefs" | "people" | "sites"; app: string | null };

const PREFIX = "lodge.";
const LANGUAGE = "language";
const THEME = "theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Storage can be full, forbidden or absent; the console then forgets, and works. */
export function keep(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, value);
  } catch { /* see above */ }
}
export function kept(key: string): string | null {
  try {
    return localStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}
/** Drops everything whose key begins so. */
export function forget(start: string): void {
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX + start)) localStorage.removeItem(key);
  } catch { /* see above */ }
}

class Place {
  language = $state<Language>("en");
  theme = $state<Theme>("auto");
  route = $state<Route>({ at: "desk", conversation: null });
  /** Moves once in twenty seconds: "waiting for 4 min" needs no more. */
  now_ms = $state(Date.now());
  narrow = $state(false);
  awake = $state(true);

  constructor() {
    const language = kept(LANGUAGE);
    this.language = language === "en" || language === "zh" ? language : spoken(navigator.language);
    const theme = kept(THEME);
    if (theme === "light" || theme === "dark") this.theme = theme;
    dark.addEventListener("change", () => this.#paint());
    this.#paint();
    this.#read();
    addEventListener("hashchange", () => this.#read());
    setInterval(() => { this.now_ms = Date.now(); }, 20_000);
    const phone = matchMedia("(max-width: 759px)");
    this.narrow = phone.matches;
    phone.addEventListener("change", () => { this.narrow = phone.matches; });
    const look = () => { this.awake = document.visibilityState === "visible" && document.hasFocus(); };
    look();
    for (const event of ["focus", "blur"]) addEventListener(event, look);
    document.addEventListener("visibilitychange", look);
  }

  get words(): Words {
    return this.language === "zh" ? zh : en;
  }

  get chosen_language(): boolean {
    return kept(LANGUAGE) !== null;
  }

  speak(language: Language, remember = true): void {
    this.language = language;
    if (remember) keep(LANGUAGE, language);
    this.#paint();
  }

  wear(theme: Theme): void {
    this.theme = theme;
    keep(THEME, theme === "auto" ? null : theme);
    this.#paint();
  }

  go(hash: string): void {
    if (location.hash !== hash) location.hash = hash;
  }

  #read(): void {
    const parts = location.hash.replace(/^#\/?/, "").split("/").map((part) => decode(part));
    const [at, second, third] = parts;
    if (at === "settings") {
      const page = second === "people" || second === "sites" ? second : "prefs";
      this.route = { at: "settings", page, app: third || null };
    } else {
      this.route = { at: "desk", conversation: at === "c" && second ? second : null };
    }
  }

  #paint(): void {
    const root = document.documentElement;
    const shown = this.theme === "auto" ? (dark.matches ? "dark" : "light") : this.theme;
    root.dataset["theme"] = shown;
    root.lang = this.language === "zh" ? "zh-CN" : "en";
  }
}

export function spoken(tag: string): Language {
  return tag.toLowerCase().startsWith("zh") ? "zh" : "en";
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

export const place = new Place();

export const toTalk = (id: string): string => `#/c/${encodeURIComponent(id)}`;
export const toSettings = (page: string, app?: string): string => `#/settings/${page}${app ? `/${encodeURIComponent(app)}` : ""}`;
