/**
 * The one script that a page carries: puts the chat into a frame of the server's own origin and gives it
 * room. It draws nothing, stores nothing and connects to nothing.
 *
 * The page may be hostile or merely old: only the DOM is used here, no JSON, no fetch, no array methods,
 * and every style is set on the element itself with the last word. The frame is another origin, where the
 * page's overrides do not reach.
 */
(() => {
  const script = document.currentScript as HTMLScriptElement | null;
  const app = script && script.getAttribute("data-app");
  const page = window as unknown as { Lodge?: Host & { ready?: boolean } };
  if (!script || !app || (page.Lodge && page.Lodge.ready)) return;

  /** What the page may set before the script, or on `window.Lodge` at any time. */
  interface Host {
    identity?: () => string | Promise<string>;
    onunread?: (count: number) => void;
    onclose?: () => void;
    onlink?: (url: string) => void;
  }

  const PHONE_PX_MAX = 520;
  const server = new URL(script.src).origin;
  const host: Host = page.Lodge || {};
  const frame = document.createElement("iframe");
  let shape = "";
  let side = "right";

  const set = (css: string) => {
    frame.style.cssText = `all:initial;position:fixed;border:0;z-index:2147483000;color-scheme:normal;${css}`.replace(
      /;/g,
      "!important;",
    );
  };

  /** A closed chat is as large as its bubble, an open one a card, and on a phone the whole screen. */
  const place = () => {
    const view = window.visualViewport;
    const edge = `${side}:max(16px,env(safe-area-inset-${side}));`;
    const root = document.documentElement;
    const whole = shape === "panel" && window.innerWidth <= PHONE_PX_MAX;
    if (!shape) set("width:0;height:0;bottom:0;right:0;visibility:hidden;");
    else if (whole) {
      const top = view ? view.offsetTop : 0;
      const height = view ? view.height : window.innerHeight;
      set(`left:0;top:${top}px;width:100vw;height:${height}px;`);
    } else if (shape === "panel") {
      set(
        `${edge}bottom:16px;width:400px;max-width:calc(100vw - 32px);height:720px;max-height:calc(100vh - 32px);` +
          "border-radius:20px;box-shadow:0 0 0 1px rgba(20,24,28,.06),0 12px 48px rgba(20,24,28,.22);",
      );
    } else set(`${edge}bottom:max(16px,env(safe-area-inset-bottom));width:76px;height:76px;margin:-8px;`);
    // The page behind a whole screen of chat must not scroll under the finger.
    if (whole !== (root.getAttribute("data-lodge") === "whole")) {
      if (whole) {
        root.setAttribute("data-lodge", "whole");
        root.style.setProperty("overflow", "hidden");
      } else {
        root.removeAttribute("data-lodge");
        root.style.removeProperty("overflow");
      }
    }
  };

  const say = (word: string, text?: string) => {
    const chat = frame.contentWindow;
    if (chat) chat.postMessage(text === undefined ? ["lodge", word] : ["lodge", word, text], server);
  };

  const vouch = () => {
    const answer = (token: unknown) => say("identity", typeof token === "string" ? token : "");
    try {
      const given = host.identity ? host.identity() : "";
      if (typeof given === "string") answer(given);
      else given.then(answer, () => answer(""));
    } catch {
      answer("");
    }
  };

  window.addEventListener("message", (event) => {
    const data = event.data as unknown[] | null;
    if (event.source !== frame.contentWindow || event.origin !== server) return;
    if (!data || typeof data !== "object" || data[0] !== "lodge") return;
    const word = data[1];
    const value = data[2];
    if (word === "shape" && (value === "bubble" || value === "panel")) {
      shape = value;
      side = data[3] === "left" ? "left" : "right";
      place();
    } else if (word === "identity") vouch();
    else if (word === "unread" && typeof value === "number" && host.onunread) host.onunread(value);
    else if (word === "closed" && host.onclose) host.onclose();
    else if (word === "link" && typeof value === "string" && /^https?:/.test(value) && host.onlink) host.onlink(value);
  });

  page.Lodge = host;
  const api = host as Host & Record<string, unknown>;
  api.ready = true;
  api.open = () => say("open");
  api.close = () => say("close");
  /** The visitor of the page changed: asks `identity` again. */
  api.identify = vouch;
  /** The visitor signed out: what this browser kept of the chat goes. */
  api.forget = () => say("forget");

  const takes = (host.identity ? "identity," : "") + (host.onlink ? "link" : "");
  const language = script.getAttribute("data-lang") || document.documentElement.lang;
  frame.title = "Chat";
  frame.allow = "clipboard-write";
  frame.src =
    `${server}/chat/${encodeURIComponent(app)}#host=${encodeURIComponent(location.origin)}` +
    `&takes=${takes}&lang=${encodeURIComponent(language)}` +
    `&page=${encodeURIComponent(location.href.replace(/#.*/, ""))}`;
  place();
  window.addEventListener("resize", place);
  if (window.visualViewport) {
    window.visualViewport.addEventListener("resize", place);
    window.visualViewport.addEventListener("scroll", place);
  }
  // Beside the body, so that whatever moves, hides or replaces the page's content leaves the chat alone.
  document.documentElement.appendChild(frame);
})();
