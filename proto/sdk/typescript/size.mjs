/** Prints what the client weighs on the wire, and fails above its cap. */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const BYTES_MAX = 12 * 1024;
const { outputFiles } = await build({
  entryPoints: [new URL("src/index.ts", import.meta.url).pathname],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2020",
  write: false,
});
const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
console.log(`@lodge/client ${bytes} of ${BYTES_MAX} bytes gzip`);
if (bytes > BYTES_MAX) process.exit(1);
