/** What a first visit costs, and what the pages are made of. `npm run build` comes first. */

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const DIST = join(import.meta.dirname, "../dist");
const FIRST_LOAD_BYTES_MAX = 3_000_000;

describe.skipIf(!existsSync(DIST))("the build", () => {
  const page = existsSync(DIST) ? readFileSync(join(DIST, "index.html"), "utf8") : "";
  const assets = existsSync(DIST) ? readdirSync(join(DIST, "assets")) : [];
  const originals = assets.filter((name) => !/\.(br|gz)$/.test(name));

  test("all that there is comes in 3 MB, packed either way", () => {
    for (const suffix of ["br", "gz"]) {
      const files = ["index.html", ...originals.map((name) => join("assets", name))];
      const bytes = files.map((name) => statSync(join(DIST, `${name}.${suffix}`)).size);
      expect(bytes.reduce((sum, each) => sum + each, 0)).toBeLessThan(FIRST_LOAD_BYTES_MAX);
    }
  });

  test("every file but the page may be kept for ever: its name has its content's hash", () => {
    for (const name of originals) expect(name).toMatch(/-[\w-]{8}\.\w+$/);
  });

  test("the page has nothing inline, and names nothing of another server", () => {
    const document = page.replaceAll(/<script [^>]*src="[^"]+"[^>]*><\/script>/g, "");
    expect(document).not.toMatch(/<script|<style| style=| on\w+=|javascript:/i);
    for (const [, address] of page.matchAll(/(?:src|href)="([^"]*)"/g)) expect(address).toMatch(/^\/assets\//);
  });
});
