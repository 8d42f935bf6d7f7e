import { beforeEach, describe, expect, test } from "vitest";
import { Gathered } from "../../src/core/gathered";
import type { Outgoing } from "../../src/core/records";
import { Sending } from "../../src/core/sending";
import type { Message } from "../../src/core/wire";

const [TALK, OTHER] = ["c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d", "d4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d"] as const;
const HELLO: Outgoing = {
  id: "m1", conversation: TALK, order: 1, clear: { kind: "text", text: "Hello" }, at: 0, header: "{}", body: "B", signature: "S",
};

function item(changes: Partial<Message> = {}): Message {
  return {
    t: "message", c: TALK, seq: 2, at: 0, occurred: null, header: HELLO.header, body: HELLO.body, unreadable: null,
    signature: HELLO.signature, retracted: null, ...changes,
  };
}

describe("a message that is under way", () => {
  let sending: Sending;

  beforeEach(() => {
    sending = new Sending([HELLO], new Gathered(), {
      errand: () => undefined, refusedAsStale: () => undefined, later: () => undefined,
    });
    sending.resume();
  });

  test("becomes an item by its answer, once", () => {
    const accepted = { t: "accepted", id: "m1", c: TALK, seq: 2, at: 0 } as const;
    expect(sending.accepted(accepted)).toEqual(item());
    expect(sending.accepted(accepted)).toBeUndefined();
    expect(sending.settle("m1", item())).toEqual(HELLO.clear);
    expect(sending.outbox.of(TALK)).toEqual([]);
  });

  test("stays under way where a server puts it into another conversation", () => {
    expect(sending.accepted({ t: "accepted", id: "m1", c: OTHER, seq: 2, at: 0 })).toBeUndefined();
    expect(sending.settle("m1", item({ c: OTHER }))).toBeUndefined();
    expect(sending.outbox.of(TALK)).toEqual([HELLO]);
  });

  test("is not believed to say what it said under other bytes", () => {
    expect(sending.settle("m1", item({ body: "C" }))).toBeUndefined();
    expect(sending.outbox.of(TALK)).toEqual([]);
  });
});
