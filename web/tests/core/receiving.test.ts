import "fake-indexeddb/auto";
import { beforeEach, describe, expect, test } from "vitest";
import { encodeBody } from "../../src/core/content";
import { Gathered } from "../../src/core/gathered";
import { Lists } from "../../src/core/lists";
import { Machine } from "../../src/core/machine";
import { digestOf, encodeHeader } from "../../src/core/payloads";
import { Reading } from "../../src/core/reading";
import { Receiving } from "../../src/core/receiving";
import { Store } from "../../src/core/store";
import type { Change, Message, Overview } from "../../src/core/wire";

const ME = { server: "signet.example", account: "aaaaaaaa-1111-4111-8111-111111111111", device: "web" };
const BEN = "bbbbbbbb-2222-4222-8222-222222222222";
const TALK = "c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d";

let run = 0;

const ADDED: Change = {
  t: "change", c: TALK, seq: 5, at: 1_000, what: "added", by: BEN, id: "x", accounts: [ME.account], roles: ["member"],
  kind: null, protection: null, title: null, target: null,
};

function overviewOf(protection: Overview["protection"]): Overview {
  return {
    c: TALK, kind: "group", protection, title: "Talk", peer: null, role: "member", head: 6, at: 1_000, unread: 0, read: 0,
    delivered: 0, ticks: { delivered: 0, read: 0, undelivered: [], more: false }, kept: null,
  };
}

describe("what is said in clear before it is known whether all is encrypted there", () => {
  let receiving: Receiving;
  let gathered: Gathered;
  let store: Store;
  let unknown: string[];

  beforeEach(async () => {
    run += 1;
    store = await Store.open(`receiving-${run}`, () => undefined);
    gathered = new Gathered();
    unknown = [];
    const machine = await Machine.open(ME, `receiving-${run}-machine`);
    const wants = { wantKey: () => undefined, doubtDevice: () => undefined };
    const reading = new Reading(machine, new Lists([], ME.server), store, gathered, wants, []);
    receiving = new Receiving(ME, store, gathered, reading, {
      settle: () => undefined,
      membersChanged: () => Promise.resolve(),
      learn: (conversation) => unknown.push(conversation),
      unsure: () => undefined,
    }, []);
    await receiving.takePage({ t: "page", c: TALK, items: [ADDED, await said()], head: 6, upto: 6, id: "", retracted: [] });
  });

  async function said(): Promise<Message> {
    const body = encodeBody({ kind: "text", text: "Welcome" });
    const h = await digestOf(body);
    const header = encodeHeader({ id: crypto.randomUUID(), c: TALK, s: BEN, d: "web", a: 5, h, n: true });
    return {
      t: "message", c: TALK, seq: 6, at: 1_000, occurred: null, header, body, unreadable: null, signature: "", retracted: null,
    };
  }

  test("is believed when it is known that nothing is", async () => {
    expect(unknown).toContain(TALK);
    expect(await gathered.find(store, TALK, 6)).toMatchObject({ reason: "not_encrypted" });
    await receiving.know({ overview: overviewOf("none"), members: null });
    const held = await gathered.find(store, TALK, 6);
    expect(held?.clear?.text).toBe("Welcome");
    expect(held?.reason).toBeUndefined();
  });

  test("is not believed when it is known that all is, and never after that", async () => {
    await receiving.know({ overview: overviewOf("end_to_end"), members: null });
    await receiving.know({ overview: overviewOf("none"), members: null });
    expect(await gathered.find(store, TALK, 6)).toMatchObject({ reason: "not_encrypted" });
    expect(receiving.of(TALK).protection).toBe("end_to_end");
  });
});
