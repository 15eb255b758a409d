// Builds the console into `../dist/console` under stable names: the server tells versions apart by ETag, and a
// rebuild of the same sources must compare equal. `vite` alone serves it against the play-acted desk in `dev/`.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";
import { stage } from "./dev/stage.mjs";

const rehearsal: Plugin = {
  name: "lodge-rehearsal",
  async configureServer(server) {
    const { answer, connect } = await stage();
    server.middlewares.use(answer);
    server.httpServer?.on("upgrade", connect);
  },
};

export default defineConfig({
  base: "/console/",
  plugins: [svelte(), rehearsal],
  build: {
    target: "es2022",
    outDir: "../dist/console",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    cssCodeSplit: false,
    reportCompressedSize: true,
    rolldownOptions: {
      output: {
        entryFileNames: "console.js",
        chunkFileNames: ({ name }) => `${name.toLowerCase()}.js`,
        assetFileNames: "console[extname]",
      },
    },
  },
});
