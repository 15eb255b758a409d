/**
 * Everything that a client cannot decide by itself: time, chance, storage, sockets and HTTP. A test
 * gives its own; `browser()` gives the real one.
 */
import { IndexedStore, MemoryStore, type Store } from "./store.js";
import { SUBPROTOCOL_BINARY } from "./wire.js";

/** One connection, whatever carries it: a batch goes out whole and comes in whole. */
export interface Transport {
  send(batch: Uint8Array): void;
  close(): void;
}

export interface TransportEvents {
  onopen(): void;
  onbatch(batch: Uint8Array): void;
  /** Once, however it ended. */
  onclose(): void;
}

export interface Answer {
  status: number;
  /** The JSON of the body, or null. */
  body: unknown;
}

export interface Request {
  method: "GET" | "POST";
  url: string;
  headers: Record<string, string>;
  body?: Blob | string;
  onprogress?: (sent: number, total: number) => void;
}

export interface World {
  now(): number;
  /** At least 0, below 1. */
  random(): number;
  bytes(length: number): Uint8Array;
  /** Calls back once; the returned function takes it back. */
  after(ms: number, then: () => void): () => void;
  open(url: string, events: TransportEvents): Transport;
  /** Rejects when no answer came at all. */
  request(request: Request): Promise<Answer>;
  fetchBlob(url: string, headers: Record<string, string>): Promise<Blob>;
  store(name: string): Promise<Store>;
  /** Calls back when the network or the person has come back; returns how to stop that. */
  onwake(then: () => void): () => void;
  /** Calls back when the page goes into the background. */
  onsleep(then: () => void): () => void;
  /** Tells the other tabs of this browser that the store changed, and hears it from them. */
  tabs(name: string, onchange: () => void): { changed(): void; close(): void };
}

export function browser(): World {
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
    after(ms, then) {
      const timer = setTimeout(then, ms);
      return () => clearTimeout(timer);
    },
    open: openWebSocket,
    request,
    async fetchBlob(url, headers) {
      const response = await fetch(url, { headers, credentials: "same-origin" });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      return response.blob();
    },
    async store(name) {
      try {
        return await IndexedStore.open(indexedDB, name);
      } catch {
        return new MemoryStore();
      }
    },
    onwake: (then) =>
      listen([
        [window, "online", then],
        [window, "pageshow", then],
        [window, "focus", then],
        [document, "visibilitychange", () => document.hidden || then()],
      ]),
    onsleep: (then) => listen([[window, "pagehide", then]]),
    tabs(name, onchange) {
      if (typeof BroadcastChannel === "undefined") return { changed() {}, close() {} };
      const channel = new BroadcastChannel(name);
      channel.onmessage = onchange;
      return { changed: () => channel.postMessage(0), close: () => channel.close() };
    },
  };
}

function listen(to: [EventTarget, string, () => void][]): () => void {
  for (const [target, name, then] of to) target.addEventListener(name, then);
  return () => {
    for (const [target, name, then] of to) target.removeEventListener(name, then);
  };
}

function openWebSocket(url: string, events: TransportEvents): Transport {
  const socket = new WebSocket(url.replace(/^http/, "ws"), SUBPROTOCOL_BINARY);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => events.onopen();
  // Text has no place in the binary protocol; one byte that cannot be read stands for it.
  socket.onmessage = ({ data }) => events.onbatch(data instanceof ArrayBuffer ? new Uint8Array(data) : Uint8Array.of(0));
  socket.onclose = () => events.onclose();
  return {
    send: (batch) => socket.send(batch as Uint8Array<ArrayBuffer>),
    // A socket whose network is gone may take a minute to say so; we do not wait for it.
    close() {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
      events.onclose();
    },
  };
}

/** XMLHttpRequest, because fetch cannot say how much of an upload has left. */
function request({ method, url, headers, body, onprogress }: Request): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open(method, url);
    for (const name of Object.keys(headers)) call.setRequestHeader(name, headers[name] as string);
    if (onprogress) call.upload.onprogress = ({ loaded, total }) => onprogress(loaded, total);
    call.onload = () => resolve({ status: call.status, body: parsed(call.responseText) });
    call.onerror = call.onabort = call.ontimeout = () => reject(new Error("no answer"));
    call.send(body ?? null);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
