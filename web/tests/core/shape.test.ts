import { describe, expect, test } from "vitest";
import { clearOfBody, encryptedOf } from "../../src/core/content";
import { anything, object, parse, tryParse } from "../../src/core/shape";

const nested = (depth: number) => '{"a":'.repeat(depth) + "1" + "}".repeat(depth);

describe("what came from outside", () => {
  test("is taken at the depth that somebody may mean", () => {
    expect(tryParse(anything, nested(64))).toBeDefined();
    expect(tryParse(anything, nested(65))).toBeUndefined();
  });

  test("is refused where no store could copy it and nothing encode it again", () => {
    const attachment = nested(10_000);
    expect(clearOfBody(`{"kind":"text","text":"hello","attachment":${attachment}}`)).toBeUndefined();
    const encrypted = '"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"AwgA","session_id":"s"';
    expect(encryptedOf(`{${encrypted}}`)).toBeDefined();
    expect(encryptedOf(`{${encrypted},"more":${attachment}}`)).toBeUndefined();
  });

  test("gives no other prototype to anything", () => {
    const found = parse(object({ a: anything }), '{"a":1,"__proto__":{"b":2},"constructor":3}', "it");
    expect(found).toStrictEqual({ a: 1 });
    expect("b" in {}).toBe(false);
  });
});
