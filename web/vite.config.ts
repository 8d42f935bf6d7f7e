import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** The engine that `npm run dev` talks to. */
const ENGINE = process.env["SIGNET_URL"] ?? "http://127.0.0.1:8700";

export default defineConfig({
  plugins: [compressed()],
  build: {
    target: "es2022",
    // A `data:` URL would have to be allowed by the Content-Security-Policy, and can't be cached by itself.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1_000,
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  // It finds its WebAssembly beside itself, which it would not where Vite has bundled it for development.
  optimizeDeps: { exclude: ["@matrix-org/matrix-sdk-crypto-wasm"] },
  server: { proxy: { "/v1": { target: ENGINE, ws: true } } },
  test: { include: ["tests/**/*.test.{ts,tsx}"], passWithNoTests: true },
});

/** Writes each file of the build once more as brotli and as gzip: the server has no time to do it for each request.
 *  With brotli's quality 10 the WebAssembly would be 8 % smaller, and each build take 6 seconds more. */
function compressed(): Plugin {
  return {
    name: "signet-compressed",
    apply: "build",
    async writeBundle({ dir = "dist" }, bundle) {
      await Promise.all(
        Object.values(bundle).map(async (file) => {
          const content = Buffer.from(file.type === "chunk" ? file.code : file.source);
          const path = join(dir, file.fileName);
          await writeFile(`${path}.br`, await brotli(content));
          await writeFile(`${path}.gz`, await promisify(gzip)(content, { level: 9 }));
        }),
      );
    },
  };
}

function brotli(content: Buffer): Promise<Buffer> {
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: 9,
    [constants.BROTLI_PARAM_LGWIN]: 22,
    [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
  };
  return promisify(brotliCompress)(content, { params });
}
