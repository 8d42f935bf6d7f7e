import { expect, test } from "vitest";
import { clearOfBody, clearOfEvent, encodeBody, encodeContent, encryptedOf, positionOf } from "../../src/core/content";
import { Malformed } from "../../src/core/shape";
import { decodeFrame } from "../../src/core/wire";

const C = "c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d";

test("fields that are missing or null have their defaults", () => {
  const frame = { t: "message", c: C, seq: 1, at: 2, ordinal: 1, own: 1, header: "{}", body: null };
  expect(decodeFrame(JSON.stringify(frame))).toEqual({
    t: "message", c: C, seq: 1, at: 2, occurred: null, header: "{}", body: null, unreadable: null, signature: null,
    retracted: null,
  });
});

test("a frame that is new is no fault, one that is wrong is", () => {
  expect(decodeFrame('{"t":"weather","rain":true}')).toBeUndefined();
  expect(decodeFrame('{"t":"__proto__"}')).toBeUndefined();
  const wrong = [
    "", "[]", "null", '"x"', "{}", '{"t":7}', '{"t":"accepted"}', `{"t":"mark","c":"${C}","read":-1}`,
    `{"t":"mark","c":"${C}","read":1.5}`, `{"t":"mark","c":"${C}","read":9007199254740993}`, '{"t":"mark","c":"../../x","read":1}',
    `{"t":"message","c":"${C}","seq":1,"at":1,"header":7}`, `{"t":"page","c":"${C}","items":[7],"head":1,"upto":1}`,
    `{"t":"welcome","conversations":{"0":1}}`,
  ];
  for (const frame of wrong) expect(() => decodeFrame(frame), frame).toThrow(Malformed);
});

test("fields that are not known are left out", () => {
  expect(decodeFrame('{"t":"pong","id":"a","more":1,"__proto__":{"x":1}}')).toEqual({ t: "pong", id: "a" });
});

test("what a message says survives both of its forms", () => {
  for (const clear of [
    { kind: "text", text: "Sunday ☕\n<b>" },
    { kind: "action", text: "waves", replyTo: 4 },
    { kind: "image", text: "", attachment: { media: "x" } },
    { kind: "poll", text: "?" },
  ]) {
    expect(clearOfBody(encodeBody(clear))).toEqual(clear);
    const event = JSON.stringify({ type: "m.room.message", content: JSON.parse(encodeContent(clear)) as unknown, room_id: "!x" });
    expect(clearOfEvent(event)).toEqual(clear);
  }
  expect(clearOfEvent('{"type":"m.reaction","content":{}}')).toEqual({ kind: "m.reaction", text: "" });
  expect(clearOfEvent('{"content":{}}')).toBeUndefined();
});

test("an encrypted body is told from others, and names its position", () => {
  const ciphertext = "AwgAEpABru/YKa8LM4zfmsEI35HDD7gUUMhTsER+";
  const body = JSON.stringify({ algorithm: "m.megolm.v1.aes-sha2", ciphertext, session_id: "s" });
  expect(encryptedOf(body)?.ciphertext).toBe(ciphertext);
  expect(encryptedOf(JSON.stringify({ algorithm: "none", ciphertext, session_id: "s" }))).toBeUndefined();
  expect(positionOf(ciphertext)).toBe(0);
  expect(positionOf(btoa("\x03\x08\xac\x02\x12"))).toBe(300);
  expect(positionOf("AgAA")).toBeUndefined();
  expect(positionOf(btoa("\x03\x08\xff\xff\xff\xff\xff\xff"))).toBeUndefined();
  expect(positionOf("%%")).toBeUndefined();
});
