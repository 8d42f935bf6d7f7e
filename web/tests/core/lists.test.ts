import { generateKeyPairSync, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { KeysFound, Link } from "../../src/core/api";
import { Lists } from "../../src/core/lists";
import { canonicalJson, signable, userId } from "../../src/core/matrixIds";
import { linkPayload, toBase64 } from "../../src/core/payloads";

const SERVER = "signet.example";
const ANNA = "a030c228-bdd4-5d6c-a1c6-7481e579fe8f";
const USER = userId(ANNA, SERVER);

class Device {
  readonly #key: KeyObject;
  readonly key: string;
  readonly curve25519 = toBase64(crypto.getRandomValues(new Uint8Array(32)));

  constructor(readonly name: string) {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    this.#key = privateKey;
    this.key = toBase64(publicKey.export({ format: "der", type: "spki" }).subarray(-32));
  }

  sign(text: string): string {
    return toBase64(sign(null, Buffer.from(text), this.#key));
  }

  get keys(): Record<string, unknown> {
    const unsigned = {
      user_id: USER,
      device_id: this.name,
      algorithms: ["m.olm.v1.curve25519-aes-sha2"],
      keys: { [`curve25519:${this.name}`]: this.curve25519, [`ed25519:${this.name}`]: this.key },
    };
    return { ...unsigned, signatures: { [USER]: { [`ed25519:${this.name}`]: this.sign(signable(unsigned)) } } };
  }

  link(by?: Device): Link {
    const payload = linkPayload({ server: SERVER, account: ANNA, device: this.name, key: this.key });
    return { device: this.name, key: this.key, active: true, by: by?.name ?? null, signature: by?.sign(payload) ?? "" };
  }
}

function found(devices: readonly Device[], links: readonly Link[], version = 1): KeysFound {
  return {
    device_keys: new Map([[USER, new Map(devices.map((device) => [device.name, device.keys]))]]),
    versions: new Map([[USER, version]]),
    links: new Map([[USER, links]]),
  };
}

async function take(lists: Lists, answer: KeysFound) {
  const taken = await lists.take([ANNA], answer, lists.moment);
  return { ...taken, devices: Object.keys(taken.answer[USER] ?? {}) };
}

describe("an account's devices", () => {
  const [phone, laptop, stranger] = [new Device("phone"), new Device("laptop"), new Device("stranger")];

  test("a device that another one has let in believes that one, and afterwards whom those two let in", async () => {
    const lists = new Lists([], SERVER);
    lists.pin(ANNA, "laptop", { ed25519: laptop.key, curve25519: laptop.curve25519 });
    const links = [phone.link(), laptop.link(phone)];
    expect((await take(lists, found([phone, laptop], links))).devices.sort()).toEqual(["laptop", "phone"]);
    const later = await take(lists, found([phone, laptop, stranger], [...links, stranger.link()], 2));
    expect(later.refused.map(({ device }) => device)).toEqual(["stranger"]);
  });

  test("the account's first device believes nobody whom it has not let in", async () => {
    const lists = new Lists([], SERVER);
    lists.know(ANNA, "phone", { ed25519: phone.key, curve25519: phone.curve25519 });
    const taken = await take(lists, found([phone, stranger], [phone.link(), stranger.link()]));
    expect(taken.refused.map(({ device }) => device)).toEqual(["stranger"]);
  });

  test("the first list is taken on trust, and those whom its first device has let in", async () => {
    const lists = new Lists([], SERVER);
    const taken = await take(lists, found([phone, laptop], [phone.link(), laptop.link(phone)]));
    expect(taken.devices).toEqual(["phone", "laptop"]);
    expect(taken.refused).toEqual([]);
    expect(lists.keyOf(ANNA, "laptop")).toBe(laptop.key);
    expect(lists.isConfirmed(ANNA)).toBe(true);
  });

  test("a device that nobody known has let in is refused, and OlmMachine does not hear of it", async () => {
    const lists = new Lists([], SERVER);
    await take(lists, found([phone], [phone.link()]));
    for (const link of [stranger.link(), stranger.link(stranger), { ...stranger.link(laptop), by: "phone" }]) {
      const taken = await take(lists, found([phone, stranger], [phone.link(), link], 2));
      expect(taken.devices).toEqual(["phone"]);
      expect(taken.refused.map((each) => each.device)).toEqual(["stranger"]);
      expect(lists.keyOf(ANNA, "stranger")).toBeUndefined();
    }
  });

  test("keys are pinned: others than before are refused, and the old ones stay", async () => {
    const lists = new Lists([], SERVER);
    await take(lists, found([phone], [phone.link()]));
    const impostor = new Device("phone");
    const taken = await take(lists, found([impostor], [impostor.link()], 2));
    expect(taken.devices).toEqual([]);
    expect(lists.keyOf(ANNA, "phone")).toBe(phone.key);
    expect((await take(lists, found([phone], [phone.link()], 3))).devices).toEqual(["phone"]);
  });

  test("keys that the device has not signed itself are not pinned", async () => {
    const lists = new Lists([], SERVER);
    const answer = found([phone], [phone.link()]);
    const other = { ...phone.keys, keys: { "ed25519:phone": phone.key, "curve25519:phone": laptop.curve25519 } };
    const taken = await take(lists, { ...answer, device_keys: new Map([[USER, new Map([["phone", other]])]]) });
    expect(taken.devices).toEqual([]);
    expect((await take(lists, answer)).devices).toEqual(["phone"]);
  });

  test("a list that is left out of the answer is the one from before", async () => {
    const lists = new Lists([], SERVER);
    const { lists: stored } = await take(lists, found([phone], [phone.link()], 7));
    const again = new Lists(stored, SERVER);
    expect(again.versionOf(ANNA)).toBe(7);
    const taken = await take(again, { device_keys: new Map(), versions: new Map(), links: new Map() });
    expect(taken.answer[USER]).toEqual({ phone: phone.keys });
    expect(taken.lists).toEqual([]);
  });

  test("who has gone is told, and still known by its key", async () => {
    const lists = new Lists([], SERVER);
    await take(lists, found([phone, laptop], [phone.link(), laptop.link(phone)]));
    const taken = await take(lists, found([phone], [phone.link(), laptop.link(phone)], 2));
    expect(taken.shrunk).toEqual([ANNA]);
    expect(lists.isActive(ANNA, "laptop")).toBe(false);
    expect(lists.keyOf(ANNA, "laptop")).toBe(laptop.key);
  });

  test("an answer confirms nothing that was doubted after it was asked for", async () => {
    const lists = new Lists([], SERVER);
    const since = lists.moment;
    lists.doubt(ANNA);
    await lists.take([ANNA], found([phone], [phone.link()]), since);
    expect(lists.isConfirmed(ANNA)).toBe(false);
    await lists.take([ANNA], found([phone], [phone.link()]), lists.moment);
    expect(lists.isConfirmed(ANNA)).toBe(true);
    lists.doubtAll();
    expect(lists.isConfirmed(ANNA)).toBe(false);
  });
});

test("canonical JSON orders keys by code point", () => {
  expect(canonicalJson({ "\u{10000}": 1, "\uffff": [true, null, "☕\n"], a: { c: 1, b: -2 } })).toBe(
    '{"a":{"b":-2,"c":1},"\uffff":[true,null,"☕\\n"],"\u{10000}":1}',
  );
  expect(() => canonicalJson({ a: 1.5 })).toThrow();
});
