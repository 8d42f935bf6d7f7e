import { expect, test } from "vitest";
import { Intake } from "../../src/core/intake";
import type { Cursor } from "../../src/core/intake";
import type { Change, Page } from "../../src/core/wire";

const C = "c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d";

function item(seq: number): Change {
  return {
    t: "change", c: C, seq, at: seq, what: "title", by: C, id: "", accounts: [], roles: [], kind: null, protection: null,
    title: null, target: null,
  };
}

function page(seqs: readonly number[], upto: number, id = ""): Page {
  return { t: "page", c: C, items: seqs.map(item), head: upto, upto, id, retracted: [] };
}

function intake(): { intake: Intake; at: Cursor } {
  const at = { cursor: 0 };
  return { intake: new Intake(() => at), at };
}

const seqs = (items: readonly { seq: number }[]) => items.map((each) => each.seq);

test("items in order are given out at once, and only once", () => {
  const { intake: one, at } = intake();
  expect([1, 2, 2, 1, 3].flatMap((seq) => seqs(one.push(item(seq))))).toEqual([1, 2, 3]);
  expect(at.cursor).toBe(3);
  expect(one.hasHoles).toBe(false);
});

test("what comes behind a hole waits, and a fetch from the cursor closes it", () => {
  const { intake: one, at } = intake();
  one.push(item(1));
  expect(one.push(item(4))).toEqual([]);
  const [fetch] = one.fetches();
  expect(fetch).toMatchObject({ c: C, after: 1 });
  expect(one.fetches()).toEqual([]);
  expect(seqs(one.page(page([2, 3], 3, fetch?.id)))).toEqual([2, 3, 4]);
  expect(at.cursor).toBe(4);
  expect(one.hasHoles).toBe(false);
});

test("seqs that a page leaves out are no hole", () => {
  const { intake: one, at } = intake();
  expect(seqs(one.page(page([3, 7], 9)))).toEqual([3, 7]);
  expect(at.cursor).toBe(9);
});

test("what the server doesn't have is not asked for again and again", () => {
  const { intake: one } = intake();
  one.want(C, 5);
  const [fetch] = one.fetches();
  one.page(page([], 0, fetch?.id));
  expect(one.hasHoles).toBe(false);
});

test("a refused fetch is made again where it may be", () => {
  const { intake: one } = intake();
  one.want(C, 5);
  const [fetch] = one.fetches();
  expect(one.refused(fetch?.id ?? "", true)).toBe(true);
  expect(one.fetches()).toHaveLength(1);
  expect(one.refused("another", true)).toBe(false);
});

test("a page that is out of order, or of another conversation, gives each item once", () => {
  const { intake: one } = intake();
  const odd = { ...page([2, 1, 2, 3], 3), items: [item(2), item(1), item(2), { ...item(3), c: "x" }, item(3)] };
  expect(seqs(one.page(odd))).toEqual([2, 3]);
});

test("whatever the order of pushes, everything comes out once, in order", () => {
  for (let seed = 1; seed < 200; seed += 1) {
    const { intake: one } = intake();
    let state = seed;
    const next = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return state % below;
    };
    const given: number[] = [];
    for (let step = 0; step < 60; step += 1) given.push(...seqs(one.push(item(1 + next(20)))));
    for (let fetches = one.fetches(); fetches.length > 0; fetches = one.fetches()) {
      for (const { id, after } of fetches) {
        given.push(...seqs(one.page(page(Array.from({ length: 20 - after }, (_, index) => after + 1 + index), 20, id))));
      }
    }
    expect(given).toEqual(given.map((_, index) => index + 1));
  }
});
