/** The parts of `/api/v1` that a client calls; a refusal comes as `{"error": {code, text}}`. */
import { REFUSAL } from "./wire.js";
import type { Answer } from "./world.js";

/** An expected no, numbered like the refusals of the wire. */
export class RefusedError extends Error {
  constructor(
    readonly code: number,
    readonly text: string,
    readonly retry_after_ms = 0,
  ) {
    super(text);
  }
}

/** Where things are on a server. */
export class Addresses {
  private readonly base: string;
  constructor(server_url: string, private readonly app_id: string | undefined) {
    this.base = server_url.replace(/\/+$/, "") + "/api/v1/";
  }

  at(path: string, query: Record<string, string> = {}): string {
    const all = this.app_id === undefined ? query : { app: this.app_id, ...query };
    const text = new URLSearchParams(all).toString();
    return this.base + path + (text && `?${text}`);
  }
}

/** The body of a good answer; throws what the server refused. */
export function bodyOf({ status, body }: Answer): Record<string, unknown> {
  const object = isObject(body) ? body : {};
  if (status >= 200 && status < 300) return object;
  const error = isObject(object.error) ? object.error : {};
  const text = typeof error.text === "string" ? error.text : `HTTP ${status}`;
  throw new RefusedError(typeof error.code === "number" ? error.code : codeOf(status), text);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** For an answer that is not ours, such as a proxy's page. */
function codeOf(status: number): number {
  if (status === 401) return REFUSAL.TokenInvalid;
  if (status === 413) return REFUSAL.TooLarge;
  if (status === 429) return REFUSAL.Throttled;
  return status >= 500 || status === 0 ? REFUSAL.NotReady : REFUSAL.NotAllowed;
}
