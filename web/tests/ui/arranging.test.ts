import { expect, test } from "vitest";
import type { Item, Person } from "../../src/model";
import { arrange, countNew, firstNew } from "../../src/ui/arranging";
import { NewLine } from "../../src/ui/newLine";

const ANNA: Person = { account: "a", name: "Anna" };
const BEN: Person = { account: "b", name: "Ben" };
const NOON = new Date(2026, 2, 30, 12).getTime();

function said(seq: number, by: Person, minutes = 0): Item {
  const mine = by === ANNA;
  return { kind: "message", key: `${seq}${mine ? "m" : ""}`, seq, author: by, mine, at: NOON + minutes * 60_000, state: "text", text: "" };
}

function waiting(key: string): Item {
  return { kind: "message", key, seq: 0, author: ANNA, mine: true, at: NOON, state: "text", text: "", tick: "waiting" };
}

test("messages of one author are drawn together, unless a day, some minutes or the line is between them", () => {
  const items = [said(1, BEN), said(2, BEN, 1), said(3, BEN, 9), said(4, ANNA, 9), said(5, BEN, 9), said(6, BEN, 9), said(7, BEN, 24 * 60)];
  const days = arrange(items, "6");
  expect(days.map((day) => day.rows.length)).toEqual([7, 1]);
  const firsts = days.flatMap((day) => day.rows.flatMap((row) => (row.kind === "message" && row.first ? [row.item.seq] : [])));
  const lasts = days.flatMap((day) => day.rows.flatMap((row) => (row.kind === "message" && row.last ? [row.item.seq] : [])));
  expect(firsts).toEqual([1, 3, 4, 5, 6, 7]);
  expect(lasts).toEqual([2, 3, 4, 5, 6, 7]);
});

test("days only go forward, so that each is there once", () => {
  const days = arrange([said(1, BEN), said(2, BEN, 24 * 60), { ...waiting("w"), at: NOON }, { ...waiting("x"), at: NaN }], undefined);
  expect(days.map((day) => day.rows.length)).toEqual([1, 3]);
});

test("what is new begins with the first message of others that was not read", () => {
  expect(firstNew([said(1, BEN), said(2, ANNA), said(3, BEN)], 1)).toBe("3");
  expect(firstNew([said(1, BEN), said(2, ANNA)], 1)).toBeUndefined();
});

test("what waits doesn't hide what is new behind it", () => {
  expect(countNew([said(1, BEN), said(2, ANNA), said(3, BEN), waiting("w")], 1)).toBe(1);
  expect(countNew([said(1, BEN), said(2, BEN)], 2)).toBe(0);
});

test("the line stays where it was, comes while nobody looks, and goes when one writes", () => {
  const line = new NewLine(1);
  const items = [said(1, BEN), said(2, BEN)];
  line.take(items, false);
  expect(line.from.value).toBe("2");
  line.take([...items, said(3, BEN)], false);
  expect(line.from.value).toBe("2");
  line.take([...items, said(3, BEN), waiting("w")], true);
  expect(line.from.value).toBeUndefined();
  line.take([...items, said(3, BEN), said(4, ANNA), said(5, BEN)], true);
  expect(line.from.value).toBeUndefined();
  line.take([...items, said(3, BEN), said(4, ANNA), said(5, BEN), said(6, BEN)], false);
  expect(line.from.value).toBe("6");
});
