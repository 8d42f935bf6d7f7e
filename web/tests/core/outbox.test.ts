import { expect, test } from "vitest";
import { Outbox } from "../../src/core/outbox";
import type { Outgoing } from "../../src/core/records";

function message(id: string, conversation: string, order: number): Outgoing {
  return { id, conversation, order, clear: { kind: "text", text: id }, at: 0, header: "", body: "", signature: "" };
}

test("one message of each conversation is under way, the next one after its answer", () => {
  const outbox = new Outbox([message("b2", "b", 4), message("a1", "a", 1), message("a2", "a", 2), message("b1", "b", 3)]);
  const firsts = () => outbox.firsts().map((each) => each.message.id);
  expect(firsts()).toEqual(["a1", "b1"]);
  const first = outbox.get("a1");
  if (first !== undefined) first.answered = true;
  expect(firsts()).toEqual(["a2", "b1"]);
  // Its answer was lost with the connection before it was an item: it is said again, before the next one.
  outbox.reset();
  expect(firsts()).toEqual(["a1", "b1"]);
  expect(outbox.remove("a1")).toBe(true);
  expect(firsts()).toEqual(["a2", "b1"]);
  expect(outbox.nextOrder()).toBe(5);
});

test("what was refused for good is shown in its place, and in nobody's way", () => {
  const outbox = new Outbox([message("a1", "a", 1), message("a2", "a", 2)]);
  outbox.fail({ ...message("a1", "a", 1), refused: { code: "no", text: "No." } });
  expect(outbox.first("a")?.message.id).toBe("a2");
  expect(outbox.of("a").map((each) => each.id)).toEqual(["a1", "a2"]);
  expect(outbox.discard("a2")).toBe(false);
  expect(outbox.discard("a1")).toBe(true);
  expect(outbox.of("a").map((each) => each.id)).toEqual(["a2"]);
});
