/** The site's colour, made legible: whatever it is, what is written on it or in it keeps 4.5 : 1. */

const LIGHT_GROUND = 1;
/** Luminance of the dark ground in app.css. */
const DARK_GROUND = 0.012;
const CONTRAST_MIN = 4.5;

export interface Accent {
  ground: string;
  ink: string;
  /** The colour as text on a light and on a dark ground. */
  onLight: string;
  onDark: string;
}

type Rgb = readonly [number, number, number];

export function accent(colour: string): Accent | null {
  const digits = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  if (!digits) return null;
  const rgb = digits.slice(1).map((pair) => parseInt(pair, 16)) as unknown as Rgb;
  const own = luminance(rgb);
  return {
    ground: hex(rgb),
    ink: contrast(own, 1) >= CONTRAST_MIN || contrast(own, 1) > contrast(own, 0) ? "#ffffff" : "#16181a",
    onLight: hex(until(rgb, 0, LIGHT_GROUND)),
    onDark: hex(until(rgb, 255, DARK_GROUND)),
  };
}

/** Moves a colour towards black or white until it can be read on `ground`. */
function until(rgb: Rgb, towards: number, ground: number): Rgb {
  let mixed = rgb;
  for (let step = 1; step <= 20 && contrast(luminance(mixed), ground) < CONTRAST_MIN; step += 1) {
    mixed = rgb.map((part) => Math.round(part + ((towards - part) * step) / 20)) as unknown as Rgb;
  }
  return mixed;
}

function contrast(a: number, b: number): number {
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function luminance(rgb: Rgb): number {
  const [r, g, b] = rgb.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as unknown as Rgb;
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

const hex = (rgb: Rgb) => `#${rgb.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
