// The JSON API, as far as the console asks it. Every call ends in a value or in an `ApiRefusal`; a session that
// has ended is told once, in one place, so that no screen has to think of it.
import { REFUSAL_TEXT_EN, REFUSAL_TEXT_ZH } from "../../../../proto/sdk/typescript/src/wire";

export type Role = "agent" | "operator";
export interface Self { id: string; name: string; role: Role; login?: string }
export interface SiteName { app: string; name: string }
export interface Me { agent: Self; sites: SiteName[]; language?: string }

export interface TwoTongues { en: string; zh: string }
export interface Trust { fingerprint?: string | null; address: string; trusted: "here" | "depends" | "no"; says: TwoTongues; steps: TwoTongues[] }
export interface SetupState { open: boolean; tls: Trust }
export interface SetupAsked { token: string; login: string; password: string; name: string; site_name: string; origins: string[] }
export interface SiteSecrets { app: string; app_secret: string; identity_secret: string; identity_key_id: string; snippet: string }

export interface Wording { title: string; greeting: string; away: string; placeholder: string }
export interface SiteSettings {
  origins: string[];
  allow_null_origin: boolean;
  allow_absent_origin: boolean;
  presence: boolean;
  colour: string;
  bubble: "left" | "right";
  texts: { en: Wording; zh: Wording };
}
export interface Site extends SiteSettings { app: string; name: string; snippet?: string }
export interface AgentRow { id: string; login: string; name: string; role: Role; disabled: boolean; online?: boolean }

export interface ConversationRow {
  id: string;
  site: string;
  visitor: { id: string; name: string; online: boolean; vouched?: boolean; device?: string };
  assignee: { id: string; name: string } | null;
  state: "open" | "closed";
  public_head: number;
  last: { seq: number; time_ms: number; author_kind: string; kind: string; preview: string } | null;
  opened_ms: number;
  unread: number;
}
export interface ConversationPage { conversations: ConversationRow[]; next: string | null }
export type ListName = "mine" | "unassigned" | "open" | "closed";

export interface Online { agents: { id: string; name: string }[]; visitors: number }

/** A refusal in numbers and words. `code` 0 means that no answer came at all. */
export class ApiRefusal extends Error {
  constructor(readonly status: number, readonly code: number, text: string, readonly retry_after_ms = 0) {
    super(text);
  }
  /** The text for a person; the server writes English, the table knows Chinese. What the server says beyond its own table follows. */
  in(language: string): string {
    const known = language === "zh" ? REFUSAL_TEXT_ZH[this.code] : undefined;
    if (!known) return this.message;
    return this.message === REFUSAL_TEXT_EN[this.code] ? known : `${known}（${this.message}）`;
  }
}

let ended: () => void = () => {};
/** Whom to tell that nobody is signed in any more. */
export function whenEnded(tell: () => void): void {
  ended = tell;
}

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { "X-Lodge": "1", Accept: "application/json" };
  const asked: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    asked.body = JSON.stringify(body);
  }
  let answer: Response;
  try {
    answer = await fetch(`/api/v1/${path}`, asked);
  } catch {
    throw new ApiRefusal(0, 0, "");
  }
  const text = await answer.text();
  if (answer.ok) return (text ? JSON.parse(text) : undefined) as T;
  const refusal = refusalIn(answer.status, text);
  if (answer.status === 401 && path !== "login") ended();
  throw refusal;
}

function refusalIn(status: number, text: string): ApiRefusal {
  try {
    const { error } = JSON.parse(text) as { error: { code: number; text: string; retry_after_ms?: number } };
    return new ApiRefusal(status, error.code, error.text, error.retry_after_ms);
  } catch {
    return new ApiRefusal(status, 0, `HTTP ${status}`);
  }
}

const part = encodeURIComponent;

export const api = {
  setup: () => ask<SetupState>("GET", "setup"),
  setUp: (asked: SetupAsked) => ask<SiteSecrets>("POST", "setup", asked),
  login: (login: string, password: string) => ask<{ agent: Self }>("POST", "login", { login, password }),
  logout: () => ask<void>("POST", "logout", {}),
  me: () => ask<Me>("GET", "me"),
  agents: async () => rows<AgentRow>(await ask("GET", "agents"), "agents"),
  createAgent: (agent: { login: string; name: string; role: Role; password: string }) => ask<AgentRow>("POST", "agents", agent),
  changeAgent: (id: string, change: { name?: string; password?: string; disabled?: boolean }) =>
    ask<AgentRow>("PATCH", `agents/${part(id)}`, change),
  sites: async () => rows<Site>(await ask("GET", "sites"), "sites"),
  site: (app: string) => ask<Site>("GET", `sites/${part(app)}`),
  createSite: (site: { name: string; origins: string[] }) => ask<SiteSecrets>("POST", "sites", site),
  changeSite: (app: string, change: Partial<Site>) => ask<Site>("PATCH", `sites/${part(app)}`, change),
  rotate: (app: string, which: "app" | "identity") =>
    ask<Partial<SiteSecrets> & { secret?: string; key_id?: string }>("POST", `sites/${part(app)}/secrets/${which}/rotate`, {}),
  conversations: (list: ListName, before: string | null) =>
    ask<ConversationPage>("GET", `conversations?list=${list}&limit=50${before ? `&before=${part(before)}` : ""}`),
  online: () => ask<Online>("GET", "people/online"),
};

/** Lists come bare or under their name; both are read. */
function rows<T>(answer: unknown, name: string): T[] {
  if (Array.isArray(answer)) return answer as T[];
  const list = (answer as Record<string, unknown>)[name];
  return Array.isArray(list) ? (list as T[]) : [];
}

/** Where the bytes of a file entry are fetched from; the cookie says who asks. */
export function fileAddress(site: string, conversation: string, lane: string, seq: number): string {
  return `/api/v1/files/${part(conversation)}/${lane}/${seq}?app=${part(site)}`;
}
