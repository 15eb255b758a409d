/** Elements, made in one line. Text only ever goes in as text. */

type Attributes = Record<string, string | boolean | undefined>;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  look: string,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (look) element.className = look;
  for (const name of Object.keys(attributes)) {
    const value = attributes[name];
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Writes only what changed, so that a screen reader is not told the same again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

const ICONS = {
  chat: "M12 3.5c-5 0-9 3.4-9 7.7 0 2.4 1.3 4.6 3.4 6-.1 1-.6 2.2-1.5 3.1-.3.3 0 .8.4.7 2-.3 3.6-1.1 4.6-1.9.7.1 1.4.2 2.1.2 5 0 9-3.5 9-7.9s-4-7.9-9-7.9Z",
  close: "M6 6l12 12M18 6L6 18",
  down: "M6 10l6 6 6-6",
  send: "M5 12h13M12.5 5.5L19 12l-6.5 6.5",
  clip: "M20 11.5l-8.2 8.1a5 5 0 0 1-7.1-7.1l8.6-8.5a3.4 3.4 0 0 1 4.8 4.8l-8.5 8.4a1.7 1.7 0 0 1-2.4-2.4l7.7-7.6",
  file: "M13.5 3.5H7.2A1.7 1.7 0 0 0 5.5 5.2v13.6a1.7 1.7 0 0 0 1.7 1.7h9.6a1.7 1.7 0 0 0 1.7-1.7V8.5l-5-5Zm0 0v5h5",
  save: "M12 4v11m-5-4.5L12 15.5l5-5M5 20h14",
} as const;
const SVG = "http://www.w3.org/2000/svg";

export function icon(name: keyof typeof ICONS): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}
