/** Text with its web addresses made clickable: only http and https, only whole addresses, only as text. */
import { el } from "./dom";

const ADDRESS = /https?:\/\/[^\s<>"'`，。；：！？、）】》」』“”‘’]+/gi;
/** What ends a sentence rather than an address. */
const TRAILING = /[.,;:!?)\]}]+$/;

export function linked(text: string, onopen: (url: string, event: Event) => void): (Node | string)[] {
  const parts: (Node | string)[] = [];
  let at = 0;
  for (const found of text.matchAll(ADDRESS)) {
    const shown = trimmed(found[0]);
    const url = safeUrl(shown);
    if (!url) continue;
    parts.push(text.slice(at, found.index));
    at = found.index + shown.length;
    const anchor = el("a", "", { href: url, target: "_blank", rel: "noopener noreferrer nofollow ugc" }, shown);
    anchor.addEventListener("click", (event) => onopen(url, event));
    parts.push(anchor);
  }
  parts.push(text.slice(at));
  return parts;
}

/** A closing bracket belongs to the address when its opening one does. */
function trimmed(address: string): string {
  let shown = address.replace(TRAILING, "");
  while (address[shown.length] === ")" && shown.split("(").length > shown.split(")").length) {
    shown = address.slice(0, shown.length + 1);
  }
  return shown;
}

function safeUrl(text: string): string | null {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}
