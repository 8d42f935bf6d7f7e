import { expect, test } from "vitest";
import { cleanName, dayOf, formatDay, formatTime, HUES, hueOf, initialsOf } from "../../src/ui/format";

const NAMES = { today: "Today", yesterday: "Yesterday" };

test("initials are the first letters of the first and last word", () => {
  expect(["Anna Lindqvist", "anna", "Anna Maria von Ö", "田中 花", "(Ben) 2", "🦊", "", "\u200b"].map(initialsOf)).toEqual([
    "AL",
    "A",
    "AÖ",
    "田花",
    "B2",
    "🦊",
    "?",
    "?",
  ]);
});

test("names are without what reorders or hides, and keep what joins", () => {
  expect(cleanName("\u202Eanna\u2066\u0000 \n b\u2028c")).toBe("anna b c");
  expect(cleanName("\u200b\u3164\u2060")).toBe("");
  expect(cleanName("👨‍👩‍👧")).toBe("👨‍👩‍👧");
});

test("days are named as people name them", () => {
  const now = new Date(2026, 2, 30, 9).getTime();
  expect(formatDay(new Date(2026, 2, 30, 0, 1).getTime(), now, NAMES)).toBe("Today");
  expect(formatDay(new Date(2026, 2, 29, 23, 59).getTime(), now, NAMES)).toBe("Yesterday");
  expect(formatDay(new Date(2026, 2, 24).getTime(), now, NAMES)).toBe(new Intl.DateTimeFormat(undefined, { weekday: "long" }).format(new Date(2026, 2, 24)));
  expect(formatDay(new Date(2026, 2, 31).getTime(), now, NAMES)).toContain("2026");
});

test("what is no time is shown as nothing", () => {
  expect([NaN, Infinity, 1e20].map(formatTime)).toEqual(["", "", ""]);
  expect(dayOf(NaN)).toBeNaN();
});

test("colours are stable and spread", () => {
  const hues = Array.from({ length: 1_000 }, (_, i) => hueOf(`00000000-0000-4000-8000-${i}`));
  expect(hueOf("a030c228-bdd4-5d6c-a1c6-7481e579fe8f")).toBe(hueOf("a030c228-bdd4-5d6c-a1c6-7481e579fe8f"));
  expect(new Set(hues).size).toBe(HUES);
});
