/**
 * The chat's end of the bridge to whatever shows it: the loader of a page, or an app's WebView.
 *
 * A message is an array ["lodge", word, ...texts and numbers]: no object, so that nothing can hide in a
 * prototype. Invariants: a frame listens only to its parent, at the one origin that the frame was opened
 * for, and speaks only to it; a full page listens only to itself, which is where an app's injected script
 * speaks; what has another shape is not heard.
 */

export type ToHost =
  | ["ready"]
  | ["shape", "bubble" | "panel", "left" | "right"]
  | ["unread", number]
  /** Asks for a fresh token of the site's back end. */
  | ["identity"]
  | ["closed"]
  | ["link", string]
  /** Name, type and bytes in base64. */
  | ["file", string, string, string];

/** What a host may take over: named when the chat is opened. */
export type Takes = "identity" | "link" | "file" | "close";

export interface FromHost {
  open?(): void;
  close?(): void;
  identity?(token: string): void;
  forget?(): void;
}

const WORD = "lodge";
const TOKEN_CHARS_MAX = 4096;
const HOST_MS_MAX = 10_000;

/** What the address said behind its #, which is then stripped so that no token stays in history or logs. */
export interface Opening {
  host: string;
  identity: string;
  language: string;
  /** Where the loader's page is. */
  page: string;
  takes: ReadonlySet<string>;
}

export function readOpening(): Opening {
  const given = new URLSearchParams(location.hash.slice(1));
  if (location.hash) history.replaceState(history.state, "", location.pathname + location.search);
  return {
    host: given.get("host") ?? "",
    identity: (given.get("identity") ?? "").slice(0, TOKEN_CHARS_MAX),
    language: given.get("lang") ?? "",
    page: given.get("page") ?? "",
    takes: new Set((given.get("takes") ?? "").split(",")),
  };
}

export class Bridge {
  readonly framed: boolean;
  private waiting: ((token: string) => void)[] = [];

  constructor(
    private readonly opening: Opening,
    private readonly heard: FromHost,
  ) {
    this.framed = window.parent !== window && opening.host !== "";
    window.addEventListener("message", (event) => this.hear(event));
  }

  takes(what: Takes): boolean {
    return this.opening.takes.has(what);
  }

  say(...message: ToHost): void {
    const packed = [WORD, ...message];
    // A page without an origin of its own can only be named "*"; nothing secret is ever said here.
    if (this.framed) window.parent.postMessage(packed, this.opening.host === "null" ? "*" : this.opening.host);
    else toApp(JSON.stringify(packed));
  }

  /** Who the site says this is; "" when it says nothing. The first word comes from the address itself. */
  identity(): Promise<string> {
    const first = this.opening.identity;
    this.opening.identity = "";
    if (first || !this.takes("identity")) return Promise.resolve(first);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the host did not answer")), HOST_MS_MAX);
      this.waiting.push((token) => {
        clearTimeout(timer);
        resolve(token);
      });
      this.say("identity");
    });
  }

  private hear({ source, origin, data }: MessageEvent): void {
    const mine = this.framed
      ? source === window.parent && origin === this.opening.host
      : source === window && origin === location.origin;
    if (!mine || !Array.isArray(data) || data[0] !== WORD) return;
    const [, word, text] = data as unknown[];
    if (word === "open") this.heard.open?.();
    else if (word === "close") this.heard.close?.();
    else if (word === "forget") this.heard.forget?.();
    else if (word === "identity" && typeof text === "string" && text.length <= TOKEN_CHARS_MAX) {
      if (this.waiting.length) for (const answer of this.waiting.splice(0)) answer(text);
      else {
        this.opening.identity = text;
        this.heard.identity?.(text);
      }
    }
  }
}

/** The three ways in which apps listen to their WebView. */
interface AppWindow {
  LodgeHost?: { postMessage?(text: string): void };
  ReactNativeWebView?: { postMessage?(text: string): void };
  webkit?: { messageHandlers?: { lodge?: { postMessage(text: string): void } } };
}

function toApp(text: string): void {
  const app = window as unknown as AppWindow;
  app.LodgeHost?.postMessage?.(text);
  app.ReactNativeWebView?.postMessage?.(text);
  app.webkit?.messageHandlers?.lodge?.postMessage(text);
}
