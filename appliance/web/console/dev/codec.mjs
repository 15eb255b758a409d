// The client's own codec, for the stage: translated from its sources, so that nothing has to be built first.
import { fileURLToPath } from "node:url";
import { build } from "vite";

const entry = fileURLToPath(new URL("../../../../proto/sdk/typescript/src/codec.ts", import.meta.url));

export async function codec() {
  const [{ output }] = await build({
    configFile: false,
    logLevel: "silent",
    build: { write: false, minify: false, lib: { entry, formats: ["es"], fileName: "codec" } },
  });
  return import(`data:text/javascript;base64,${Buffer.from(output[0].code).toString("base64")}`);
}
