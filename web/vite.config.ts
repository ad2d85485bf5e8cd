// Builds the page into the package, with a hash of what it was built of: a test compares it with the sources.
// @ts-expect-error: Node's own types are no dependency of the page.
import { createHash } from "node:crypto";
// @ts-expect-error: see above.
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

const OUT = "../src/sfumato/server/web";
const SOURCES = ["index.html", "package-lock.json", "package.json", "src", "tsconfig.json", "vite.config.ts"];

function files(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name: string) => files(`${path}/${name}`));
}

/** The hash of all sources: SHA-256 over each path and content, in the order of the paths. */
function hashOfSources(): string {
  const hash = createHash("sha256");
  for (const path of SOURCES.flatMap(files).sort()) hash.update(path + "\0").update(readFileSync(path)).update("\0");
  return hash.digest("hex");
}

const stamp: Plugin = {
  name: "stamp",
  closeBundle: () => writeFileSync(`${OUT}/sources.sha256`, hashOfSources() + "\n"),
};

export default defineConfig({
  base: "/web/",
  plugins: [stamp],
  build: { outDir: OUT, emptyOutDir: true, assetsDir: "", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { "/api": { target: "http://127.0.0.1:7860", ws: true } } },
});
