import { readFileSync } from "node:fs";
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  accountId, decodeHeader, digestOf, encodeHeader, fromBase64, helloPayload, linkPayload, receiptPayload,
  registrationPayload, toBase64, uuid5, verify,
} from "../../src/core/payloads";

/** The worked example of docs/protocol.md: its signed texts, in their order, each with the signature that follows it. */
const PAGE = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8").split("## A worked example")[1] ?? "";
const SIGNED = [...PAGE.matchAll(/```signed\n([\s\S]*?)\n```\n+ {4}(\S{86})\n/g)].map((found) => [found[1], found[2]] as const);
const KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg";
const NONCE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJw";
const SERVER = "signet.example";
const ACCOUNT = "a030c228-bdd4-5d6c-a1c6-7481e579fe8f";
const CONVERSATION = "c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d";
const BODY = '{"kind":"text","text":"Sunday at nine? ☕","salt":"AAECAwQFBgcICQoLDA0ODw"}';

const TEXTS = [
  registrationPayload({
    nonce: NONCE, server: SERVER, id: "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b", device: "laptop", key: KEY,
  }),
  helloPayload({ nonce: NONCE, server: SERVER, account: ACCOUNT, device: "laptop" }),
  linkPayload({
    server: SERVER, account: ACCOUNT, device: "phone", key: "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc",
  }),
  encodeHeader({
    id: "9f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a01",
    c: CONVERSATION,
    s: ACCOUNT,
    d: "laptop",
    a: 4,
    h: "NNt+nhs2mR4IKijOkYm52HhohhqUTYmJu8jq4rbRw7U",
    n: true,
  }),
  receiptPayload({
    conversation: CONVERSATION, account: ACCOUNT, device: "laptop", delivered: 7, read: 3, undecryptable: [5], repaired: [],
  }),
];

describe("the worked example of the protocol", () => {
  test("has as many signed texts as are made here", () => {
    expect(SIGNED).toHaveLength(TEXTS.length);
  });

  test.each(TEXTS.map((text, index) => [text.split("\n")[0]?.slice(0, 24), text, index] as const))(
    "%s",
    async (_, text, index) => {
      const [signed, signature] = SIGNED[index] ?? [];
      expect(text).toBe(signed);
      expect(await verify(KEY, text, signature ?? "")).toBe(true);
      expect(await verify(KEY, `${text} `, signature ?? "")).toBe(false);
    },
  );

  test("has this digest of its body", async () => {
    expect(await digestOf(BODY)).toBe("NNt+nhs2mR4IKijOkYm52HhohhqUTYmJu8jq4rbRw7U");
  });
});

test("a signature by another key, or that is none, is not one", async () => {
  const seed = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, 7)]);
  const other = createPrivateKey({ key: seed, format: "der", type: "pkcs8" });
  const signature = toBase64(sign(null, Buffer.from("text"), other));
  const raw = createPublicKey(other).export({ format: "der", type: "spki" }).subarray(-32);
  expect(await verify(toBase64(raw), "text", signature)).toBe(true);
  expect(await verify(KEY, "text", signature)).toBe(false);
  expect(await verify(KEY, "text", "")).toBe(false);
  expect(await verify("no key", "text", signature)).toBe(false);
});

test("uuids of version 5 are those of RFC 9562", async () => {
  expect(await uuid5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com")).toBe("2ed6657d-e927-568b-95e1-2665a8aea6a2");
});

test("an account that is named by its registration has the id that the server derives", async () => {
  // uuid5 of the namespace of accounts and "<id>\n", made by Python's uuid.
  expect(await accountId("1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")).toBe("7effe34b-a41f-5bbe-9b69-166421134d17");
});

test("base64 without padding goes both ways, whatever the length", () => {
  for (let length = 0; length < 70; length += 1) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 37) % 256);
    expect(fromBase64(toBase64(bytes))).toEqual(bytes);
  }
  expect(() => fromBase64("ab=")).toThrow();
});

test("a header counts by default, and one that lacks something is none", () => {
  const header = { id: CONVERSATION, c: CONVERSATION, s: ACCOUNT, d: "laptop", a: 0, h: "x" };
  expect(decodeHeader(JSON.stringify(header))?.n).toBe(true);
  expect(decodeHeader(JSON.stringify({ ...header, a: -1 }))).toBeUndefined();
  expect(decodeHeader(JSON.stringify({ ...header, s: "somebody" }))).toBeUndefined();
  expect(decodeHeader("{")).toBeUndefined();
});

test("a line break can't move what is signed from one line to the next", () => {
  expect(() => helloPayload({ nonce: "a\nb", server: SERVER, account: ACCOUNT, device: "x" })).toThrow();
});
