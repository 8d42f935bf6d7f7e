/** A server that lies: what it hands on is checked against what the sender's device has signed. Two real machines, and
 *  between them whatever the test makes of a message. */

import "fake-indexeddb/auto";
import { beforeEach, describe, expect, test } from "vitest";
import { clearOfBody } from "../../src/core/content";
import { Gathered } from "../../src/core/gathered";
import { Lists } from "../../src/core/lists";
import { Machine } from "../../src/core/machine";
import { userId } from "../../src/core/matrixIds";
import { digestOf, encodeHeader } from "../../src/core/payloads";
import type { Header } from "../../src/core/payloads";
import { Reading } from "../../src/core/reading";
import type { KeyWanted } from "../../src/core/reading";
import { newConversation } from "../../src/core/records";
import type { Conversation, Held } from "../../src/core/records";
import { plainObject } from "../../src/core/shape";
import { Store } from "../../src/core/store";
import type { Mail, Message } from "../../src/core/wire";

const SERVER = "signet.example";
const [ANNA, BEN, CLEO] = [
  "aaaaaaaa-1111-4111-8111-111111111111", "bbbbbbbb-2222-4222-8222-222222222222", "cccccccc-3333-4333-8333-333333333333",
];
const TALK = "c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d";
const OTHER = "d4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d";

let run = 0;

/** A device with what the server has of it. */
class Side {
  readonly oneTimeKeys: [string, unknown][] = [];
  keys: unknown;

  private constructor(
    readonly account: string,
    readonly machine: Machine,
  ) {}

  static async make(account: string): Promise<Side> {
    const machine = await Machine.open({ server: SERVER, account, device: "web" }, `reading-${run}-${account}`);
    const side = new Side(account, machine);
    for (const errand of await machine.uploads()) {
      const body = plainObject(JSON.parse(errand.body), "upload");
      side.keys ??= body["device_keys"];
      side.oneTimeKeys.push(...Object.entries(plainObject(body["one_time_keys"], "keys")));
      await machine.done(errand, { one_time_key_counts: { signed_curve25519: side.oneTimeKeys.length } });
    }
    return side;
  }

  get user(): string {
    return userId(this.account, SERVER);
  }

  async share(conversation: string, others: readonly Side[]): Promise<Mail[]> {
    const all = [this, ...others];
    await this.machine.takeDevices(Object.fromEntries(all.map((side) => [side.user, { web: side.keys }])));
    const accounts = all.map((side) => side.account);
    const claim = await this.machine.claim(accounts);
    if (claim !== undefined) {
      const claimed = others.map((side) => [side.user, { web: Object.fromEntries([side.oneTimeKeys.shift() ?? []]) }]);
      await this.machine.done(claim.errand, { one_time_keys: Object.fromEntries(claimed), failures: {} });
    }
    const mails: Mail[] = [];
    for (const errand of await this.machine.share(conversation, accounts)) {
      const { messages } = JSON.parse(errand.body) as { messages: Record<string, { web: unknown }> };
      await this.machine.done(errand, {});
      for (const [user, { web }] of Object.entries(messages)) {
        const to = others.find((side) => side.user === user);
        if (to === undefined) continue;
        mails.push({ t: "mail", n: mails.length + 1, type: errand.event, sender: this.user, content: JSON.stringify(web) });
      }
    }
    return mails;
  }

  async say(text: string, changes: Partial<Header> = {}, signer: Side = this): Promise<Message> {
    const body = await this.machine.encrypt(TALK, { kind: "text", text });
    return this.signed(body, changes, signer);
  }

  async signed(body: string, changes: Partial<Header> = {}, signer: Side = this): Promise<Message> {
    const header = encodeHeader({
      id: crypto.randomUUID(), c: TALK, s: this.account, d: "web", a: 1, h: await digestOf(body), n: true, ...changes,
    });
    const signature = await signer.machine.sign(header);
    return {
      t: "message", c: TALK, seq: 2, at: 1_000, occurred: null, header, body, unreadable: null, signature, retracted: null,
    };
  }
}

describe("a message that the server hands on", () => {
  let [anna, ben, cleo]: Side[] = [];
  let store: Store;
  let gathered: Gathered;
  let reading: Reading;
  let wanted: KeyWanted[];
  let conversation: Conversation;

  /** Ben's side. */
  async function read(item: Message): Promise<Held> {
    const held = await reading.take(item, conversation, undefined);
    gathered.put(held);
    await store.commit(gathered.takeBatch());
    reading.stored();
    return held;
  }

  async function restart(): Promise<void> {
    const { machine } = must(ben);
    const lists = new Lists([], SERVER);
    for (const side of [must(anna), must(ben), must(cleo)]) {
      lists.know(side.account, "web", { ed25519: side.machine.key, curve25519: side.machine.curve25519 });
    }
    const asking = { wantKey: (each: KeyWanted) => wanted.push(each), doubtDevice: () => undefined };
    reading = new Reading(machine, lists, store, gathered, asking, await store.all("undecrypted"));
  }

  beforeEach(async () => {
    run += 1;
    [anna, ben, cleo] = await Promise.all([ANNA, BEN, CLEO].map((account) => Side.make(must(account))));
    store = await Store.open(`reading-${run}`, () => undefined);
    gathered = new Gathered();
    wanted = [];
    conversation = { ...newConversation(TALK), known: true };
    await restart();
    await must(ben).machine.takeMail(await must(anna).share(TALK, [must(ben)]));
  });

  test("is read, and again after a restart", async () => {
    const item = await must(anna).say("Hello");
    expect((await read(item)).clear?.text).toBe("Hello");
    await restart();
    expect((await read(item)).clear?.text).toBe("Hello");
  });

  test("under another seq or id is a replay, also after a restart", async () => {
    const item = await must(anna).say("Hello");
    await read(item);
    expect((await read({ ...item, seq: 3 })).reason).toBe("replayed");
    await restart();
    expect((await read({ ...item, seq: 4 })).reason).toBe("replayed");
    const again = await must(anna).signed(item.body ?? "", { id: crypto.randomUUID() });
    expect((await read({ ...again, seq: 5 })).reason).toBe("replayed");
  });

  test("with another body, header, or signature is forged", async () => {
    const item = await must(anna).say("Hello");
    const other = await must(anna).say("Other");
    const forged: Message[] = [
      { ...item, body: other.body },
      { ...item, header: item.header.replace('"a":1', '"a":2') },
      { ...item, signature: other.signature },
      { ...item, signature: null },
      { ...item, c: OTHER },
      await must(anna).say("Hello", {}, must(cleo)),
      { ...item, header: "{}" },
    ];
    for (const [index, each] of forged.entries()) {
      expect((await read({ ...each, seq: 10 + index })).reason, String(index)).toBe("forged_header");
    }
    expect((await read(item)).clear?.text).toBe("Hello");
  });

  test("of one member's session in another's name is forged, though that one has signed it", async () => {
    const item = await must(anna).say("Hello");
    const stolen = await must(cleo).signed(item.body ?? "");
    expect((await read(stolen)).reason).toBe("forged_header");
    expect((await read({ ...item, seq: 3 })).clear?.text).toBe("Hello");
  });

  test("in clear is not believed where all is encrypted", async () => {
    const item = await must(anna).signed('{"kind":"text","text":"Hello","salt":""}');
    expect(clearOfBody(item.body ?? "")?.text).toBe("Hello");
    expect((await read(item)).reason).toBe("not_encrypted");
  });

  test("that was changed can't be decrypted, even if its device had signed that", async () => {
    const item = await must(anna).say("Hello");
    const body = JSON.parse(item.body ?? "{}") as { ciphertext: string };
    const at = body.ciphertext.length - 20;
    const flipped = body.ciphertext[at] === "A" ? "B" : "A";
    const changed = { ...body, ciphertext: body.ciphertext.slice(0, at) + flipped + body.ciphertext.slice(at + 1) };
    expect((await read(await must(anna).signed(JSON.stringify(changed)))).reason).toBe("tampered");
  });

  test("without its key is asked for, named after a while, and repaired when the key has come", async () => {
    await must(anna).machine.endSession(TALK);
    const mails = await must(anna).share(TALK, [must(ben)]);
    const item = await must(anna).say("Hello");
    expect((await read(item)).reason).toBe("no_key");
    expect(wanted).toMatchObject([{ conversation: TALK, sender: ANNA }]);
    expect(reading.acks(TALK, 2, 0)).toMatchObject([{ upto: 1, undecryptable: [] }]);
    await restart();
    expect(reading.acks(TALK, 2, 0)).toMatchObject([{ upto: 2, undecryptable: [2], repaired: [] }]);
    const { sessions } = await must(ben).machine.takeMail(mails);
    await reading.retrySessions(sessions);
    expect([...gathered.acks]).toEqual([TALK]);
    expect(reading.acks(TALK, 2, 0)).toMatchObject([{ upto: 2, undecryptable: [], repaired: [2] }]);
    await store.commit(gathered.takeBatch());
    expect((await store.item(TALK, 2))?.clear?.text).toBe("Hello");
    expect(reading.acks(TALK, 2, 0)).toMatchObject([{ undecryptable: [], repaired: [] }]);
  });
});

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("it is not there");
  return value;
}
