import { describe, expect, test } from "vitest";
import { XSS_PAYLOADS } from "../../src/ui/hostile";
import { beginningOf, isLargeEmoji, partsOf } from "../../src/ui/richText";

function links(text: string): string[] {
  return partsOf(text).flatMap((part) => (part.kind === "link" ? [part.text] : []));
}

describe("links", () => {
  test("stand in texts as they were written, without the sentence around them", () => {
    expect(links("see https://a.example/x?y=1#z, or (http://b.example/wiki/Ring_(seal)).")).toEqual([
      "https://a.example/x?y=1#z",
      "http://b.example/wiki/Ring_(seal)",
    ]);
  });

  test("are http and https only", () => {
    expect(links("javascript:alert(1) data:text/html,x ftp://a.example file:///etc/passwd mailto:a@b.example")).toEqual([]);
  });

  test("have no names before the host, which would be taken for the host", () => {
    expect(links("https://bank.example@evil.example/")).toEqual([]);
  });

  test("end before what reorders the line", () => {
    expect(links("https://a.example/\u202Egnp.exe")).toEqual(["https://a.example/"]);
  });

  test("whatever is said, the parts together are the text, and addresses are of the web", () => {
    for (const payload of XSS_PAYLOADS) {
      const parts = partsOf(payload);
      expect(parts.map((part) => part.text).join("")).toBe(payload);
      for (const part of parts) if (part.kind === "link") expect(new URL(part.href).protocol).toMatch(/^https?:$/);
    }
  });
});

test("messages of up to three emoji are large", () => {
  expect(["👍", "🎸🔥", "👨‍👩‍👧‍👦 🏳️‍🌈 🇸🇪"].map(isLargeEmoji)).toEqual([true, true, true]);
  expect(["", "  ", "12", "ok 👍", "👍👍👍👍", "#", "👍".repeat(1_000)].map(isLargeEmoji)).toEqual(Array(7).fill(false));
});

test("a text is not cut within a character", () => {
  expect(beginningOf("ab😀", 3)).toBe("ab");
  expect(beginningOf("ab😀", 4)).toBe("ab😀");
});
