/**
 * Builds the bundle that the server embeds, under names that never change, and fails when a part weighs
 * more than a visitor on a slow network should wait for. The output depends on the sources alone.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = here("../dist/widget/");

/** Bytes after gzip. All that is needed to read and write counts, whatever file it stands in. */
const CAPS = [
  ["loader", 2 * 1024, ["widget.js"]],
  ["chat", 30 * 1024, ["chat.html", "app.js", "app.css"]],
];

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const shared = { bundle: true, minify: true, charset: "utf8", legalComments: "none", outdir: out };
await build({ ...shared, entryPoints: { widget: here("src/loader.ts") }, format: "iife", target: "es2017" });
await build({ ...shared, entryPoints: { app: here("src/app.ts") }, format: "esm", target: "es2020" });
await build({ ...shared, entryPoints: { app: here("src/app.css") }, target: ["chrome80", "safari14"] });
copyFileSync(here("index.html"), `${out}chat.html`);

let heavy = false;
for (const [part, bytesMax, files] of CAPS) {
  const bytes = files.reduce((sum, file) => sum + gzipSync(readFileSync(out + file), { level: 9 }).length, 0);
  console.log(`${part}: ${bytes} of ${bytesMax} bytes gzip (${files.join(", ")})`);
  heavy ||= bytes > bytesMax;
}
if (heavy) process.exit(1);
