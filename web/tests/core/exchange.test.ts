/** Sessions and a device of the Python client talk through a real engine. */

import "fake-indexeddb/auto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Item, Opened } from "../../src/model";
import { openSession } from "../../src/core/session";
import type { Locks } from "../../src/core/locks";
import type { Session } from "../../src/core/session";
import { Engine, Peer, Wire, hasEngine, until } from "./engine";

let engine: Engine;
let names = 0;
const ends: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  if (hasEngine) engine = await Engine.start();
}, 30_000);
afterAll(() => engine?.stop());
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function open(name: string, base = engine.url): Promise<Session> {
  const session = await openSession({ base, name });
  ends.push(() => session.end());
  return session;
}

async function register(name: string, base = engine.url): Promise<Session> {
  names += 1;
  const session = await open(`${name}-${names}`, base);
  await until(() => session.phase.value.kind === "new", "the registration");
  await session.register(name, "");
  await until(() => session.connection.value === "live", "the connection");
  return session;
}

async function python(name: string): Promise<{ peer: Peer; account: string }> {
  const peer = new Peer();
  ends.push(() => peer.stop());
  return { peer, account: await peer.ask<string>("register", engine.url, name) };
}

function show(session: Session, conversation: string): Opened {
  const opened = session.open(conversation);
  ends.push(() => opened.close());
  return opened;
}

const addressOf = (session: Session) => session.me.value?.address ?? "";
const accountOf = (session: Session) => session.me.value?.account ?? "";
const messages = (opened: Opened) => opened.items.value.flatMap((item) => (item.kind === "message" ? [item] : []));
const texts = (opened: Opened) => messages(opened).map((item) => (item.state === "text" ? item.text : item.state));
const tick = (opened: Opened, text: string) => messages(opened).find((item) => item.text === text)?.tick;
const lastSeq = (opened: Opened) => opened.items.value.findLast((item: Item) => item.seq > 0)?.seq ?? 0;
const knows = (session: Session, conversation: string) => () =>
  session.conversations.value.some((each) => each.id === conversation);

/** The next mail with keys of this process gets lost, though it is said to be there; gives what ends it. */
function loseNextKeys(): () => void {
  const { fetch } = globalThis;
  globalThis.fetch = (input, init) => {
    if (!String(input).includes("/sendToDevice/m.room.encrypted/")) return fetch(input, init);
    globalThis.fetch = fetch;
    return Promise.resolve(new Response("{}"));
  };
  return () => (globalThis.fetch = fetch);
}

describe.skipIf(!hasEngine)("with a real engine", { timeout: 60_000 }, () => {
  test("two sessions talk, and ticks turn", async () => {
    const [anna, ben] = [await register("Anna"), await register("Ben")];
    const conversation = await anna.startDirect(addressOf(ben));
    const annas = show(anna, conversation);
    await annas.send("Hello Ben");
    await until(knows(ben, conversation), "the conversation at Ben's");
    const bens = show(ben, conversation);
    await until(() => texts(bens).includes("Hello Ben"), "the message");
    await until(() => tick(annas, "Hello Ben") === "delivered", "the second tick");
    const [summary] = ben.conversations.value;
    expect(summary).toMatchObject({ kind: "direct", encrypted: true, unread: 1, member: true });
    await until(() => ben.conversations.value[0]?.title === "Anna", "the title");
    expect(summary?.last).toMatchObject({ text: "Hello Ben", mine: false });
    bens.seen(lastSeq(bens));
    await until(() => tick(annas, "Hello Ben") === "read", "the read tick");
    await until(() => ben.conversations.value[0]?.unread === 0, "nothing unread");
    await bens.send("Hello Anna");
    await until(() => texts(annas).includes("Hello Anna"), "the answer");
    expect(texts(annas)).toEqual(["Hello Ben", "Hello Anna"]);
    await until(() => tick(bens, "Hello Anna") === "delivered", "the second tick");
  });

  test("a session and the Python client talk, each way, and take back", async () => {
    const anna = await register("Anna");
    const { peer, account } = await python("Paul");
    const conversation = await anna.startDirect(account);
    const annas = show(anna, conversation);
    await annas.send("from the web ☕");
    await until(async () => (await peer.ask<string[]>("texts", conversation)).includes("from the web ☕"), "it at Paul's");
    await until(() => tick(annas, "from the web ☕") === "delivered", "the second tick");
    await peer.ask("read", conversation);
    await until(() => tick(annas, "from the web ☕") === "read", "the read tick");
    const seq = await peer.ask<number>("post", conversation, "from Python");
    await until(() => texts(annas).includes("from Python"), "the answer");
    annas.seen(seq);
    await until(async () => (await peer.ask<string>("tick", conversation, seq)) === "read", "Paul's read tick");
    await peer.ask("retract", conversation, seq);
    await until(() => texts(annas).includes("retracted"), "the retraction");
    expect(texts(annas)).toEqual(["from the web ☕", "retracted"]);
    expect(anna.conversations.value[0]?.last).toMatchObject({ state: "retracted", text: "" });
  });

  test("a group of three, in which somebody goes and somebody comes", async () => {
    const [anna, ben, carl] = [await register("Anna"), await register("Ben"), await register("Carl")];
    const { peer, account } = await python("Paul");
    const group = await anna.startGroup("Walkers", [addressOf(ben), account]);
    const annas = show(anna, group);
    await until(knows(ben, group), "the group at Ben's");
    const bens = show(ben, group);
    await annas.send("one");
    await bens.send("two");
    await peer.ask("post", group, "three");
    for (const opened of [annas, bens]) {
      await until(() => ["one", "two", "three"].every((text) => texts(opened).includes(text)), "all three");
    }
    expect(texts(annas)).toEqual(texts(bens));
    await until(async () => (await peer.ask<string[]>("texts", group)).length === 3, "all three at Paul's");
    await until(() => tick(annas, "one") === "delivered", "the second tick");
    bens.seen(lastSeq(bens));
    expect(tick(annas, "one")).not.toBe("read");
    await peer.ask("read", group);
    await until(() => tick(annas, "one") === "read", "the read tick of both");
    await until(() => annas.members.value.map((person) => person.name).sort().join() === "Anna,Ben,Paul", "the names");

    const other = await peer.ask<string>("group", "Others", [accountOf(anna), accountOf(ben)]);
    await until(knows(anna, other), "the other group");
    const annasOther = show(anna, other);
    await annasOther.send("to all");
    await until(() => tick(annasOther, "to all") === "delivered", "the second tick");
    await peer.ask("remove", other, accountOf(ben));
    await peer.ask("add", other, [accountOf(carl)]);
    await annasOther.send("without Ben, with Carl");
    await until(knows(carl, other), "the group at Carl's");
    const carls = show(carl, other);
    await until(() => texts(carls).includes("without Ben, with Carl"), "what was sent after Carl came");
    expect(texts(carls)).toEqual(["without Ben, with Carl"]);
    await until(() => ben.conversations.value.find((each) => each.id === other)?.member === false, "Ben's going");
    expect(texts(show(ben, other))).not.toContain("without Ben, with Carl");
  });

  test("a cut loses and doubles nothing", async () => {
    const wire = await Wire.to(engine.url);
    ends.push(() => wire.stop());
    const [anna, ben] = [await register("Anna", wire.url), await register("Ben")];
    const conversation = await ben.startDirect(accountOf(anna));
    await until(knows(anna, conversation), "the conversation");
    const [annas, bens] = [show(anna, conversation), show(ben, conversation)];
    await annas.send("before");
    await until(() => tick(annas, "before") === "delivered", "the first one");
    const expected = ["before"];
    for (let round = 0; round < 6; round += 1) {
      if (round % 2 === 0) {
        // Just when a message is on its way: nobody knows whether it has arrived.
        let isCut = false;
        wire.onSent = (piece) => {
          if (isCut || piece.length < 400) return;
          isCut = true;
          setTimeout(() => wire.cut(), round);
        };
      } else {
        wire.cut();
      }
      await annas.send(`anna ${round}`);
      await bens.send(`ben ${round}`);
      expected.push(`anna ${round}`, `ben ${round}`);
      await until(() => wire.isCut && anna.connection.value !== "live", "the cut");
      wire.onSent = () => undefined;
      wire.mend();
      await until(() => texts(annas).length === expected.length && texts(bens).length === expected.length, "all of it");
    }
    expect(texts(annas)).toEqual(texts(bens));
    expect([...texts(annas)].sort()).toEqual([...expected].sort());
    await until(() => messages(annas).every((item) => !item.mine || item.tick === "delivered"), "all ticks");
  });

  test("a reload keeps identity and history, and what was not sent yet goes out", async () => {
    const wire = await Wire.to(engine.url);
    ends.push(() => wire.stop());
    const [anna, ben] = [await register("Anna", wire.url), await register("Ben")];
    const name = `Anna-${names - 1}`;
    const conversation = await anna.startDirect(accountOf(ben));
    const before = show(anna, conversation);
    await before.send("before");
    await until(() => tick(before, "before") === "delivered", "the message");
    wire.cut();
    await before.send("while away");
    expect(tick(before, "while away")).toBe("waiting");
    const me = anna.me.value;
    await anna.end();
    wire.mend();
    const again = await open(name, wire.url);
    expect(again.phase.value).toEqual({ kind: "ready" });
    await until(() => again.connection.value === "live", "the connection");
    expect(again.me.value).toEqual(me);
    const after = show(again, conversation);
    await until(() => tick(after, "while away") === "delivered", "what was not sent");
    expect(texts(after)).toEqual(["before", "while away"]);
    const bens = show(ben, conversation);
    await bens.send("still there?");
    await until(() => texts(after).includes("still there?"), "the answer");
    expect(texts(bens)).toEqual(["before", "while away", "still there?"]);
  });

  test("a key that got lost is asked for, and given, each way", async () => {
    const [anna, ben] = [await register("Anna"), await register("Ben")];
    const { peer, account } = await python("Paul");
    const group = await anna.startGroup("Losers", [addressOf(ben), account]);
    await until(knows(ben, group), "the group at Ben's");
    const [annas, bens] = [show(anna, group), show(ben, group)];

    const restore = loseNextKeys();
    await annas.send("lost for both");
    await until(() => texts(bens).includes("undecryptable"), "the loss");
    await until(() => texts(bens).includes("lost for both"), "the key at Ben's");
    await until(async () => (await peer.ask<string[]>("texts", group)).includes("lost for both"), "the key at Paul's");
    await until(() => tick(annas, "lost for both") === "delivered", "the second tick");
    expect(bens.items.value.at(-1)).toMatchObject({ state: "text" });
    restore();

    await peer.ask("withhold");
    await peer.ask("post", group, "lost by Paul");
    for (const opened of [annas, bens]) await until(() => texts(opened).includes("lost by Paul"), "Paul's key");
  });

  test("after a restore everything comes back that a sender still has, once", async () => {
    const first = await Engine.start();
    let running = first;
    ends.push(() => running.stop());
    const wire = await Wire.to(first.url);
    ends.push(() => wire.stop());
    const [anna, ben] = [await register("Anna", wire.url), await register("Ben", wire.url)];
    const conversation = await anna.startDirect(accountOf(ben));
    const annas = show(anna, conversation);
    await annas.send("before");
    await until(() => tick(annas, "before") === "delivered", "what is before");
    const backup = await first.backUp();
    const bens = show(ben, conversation);
    for (const text of ["after 1", "after 2"]) await annas.send(text);
    await bens.send("after, of Ben");
    const later = await anna.startGroup("Later", [addressOf(ben)]);
    await show(anna, later).send("in a group that the server forgets");
    const all = ["before", "after 1", "after 2", "after, of Ben"];
    for (const opened of [annas, bens]) await until(() => texts(opened).length === all.length, "what is after");
    bens.seen(lastSeq(bens));
    wire.cut();
    await annas.send("while it was away");
    await first.stop();
    running = await Engine.restore(backup);
    wire.lead(running.url);
    wire.mend();
    const expected = [...all, "while it was away"];
    for (const opened of [annas, bens]) await until(() => texts(opened).length === expected.length, "all of it");
    for (const opened of [annas, bens]) {
      await until(() => messages(opened).every((item) => item.tick !== "waiting"), "all answers");
    }
    await until(() => texts(bens).join() === texts(annas).join(), "one order");
    expect([...texts(annas)].sort()).toEqual([...expected].sort());
    for (const session of [anna, ben]) expect(session.phase.value.kind).toBe("ready");
  });

  test("one tab has the device; another takes it over", async () => {
    const anna = await register("Anna");
    const name = `Anna-${names}`;
    const other = await open(name);
    expect(other.phase.value).toEqual({ kind: "elsewhere" });
    other.useHere();
    await until(() => other.phase.value.kind === "ready", "the other tab");
    expect(anna.phase.value).toEqual({ kind: "elsewhere" });
    await until(() => other.connection.value === "live", "its connection");
    expect(other.me.value?.account).toBe(accountOf(anna));
    anna.useHere();
    await until(() => anna.phase.value.kind === "ready" && anna.connection.value === "live", "back again");
    expect(other.phase.value).toEqual({ kind: "elsewhere" });
  });

  test("a tab from which the device was stolen sends nothing, even before it has heard of that", async () => {
    const name = `stolen-${names}`;
    const always: Locks = {
      request: (_: string, __: unknown, granted?: unknown) => (granted as () => Promise<void>)(),
      query: () => Promise.resolve({}),
    };
    const open = async () => {
      const session = await openSession({ base: engine.url, name, locks: always });
      ends.push(() => session.end());
      return session;
    };
    const before = await open();
    await until(() => before.phase.value.kind === "new", "the registration");
    await before.register("Anna", "");
    const ben = await register("Ben");
    const conversation = await before.startDirect(addressOf(ben));
    const stolen = show(before, conversation);
    await stolen.send("first");
    await until(() => tick(stolen, "first") === "delivered", "the first message");
    const after = await open();
    const opened = show(after, conversation);
    await expect(stolen.send("late")).rejects.toThrow("another tab");
    await opened.send("second");
    const there = show(ben, conversation);
    await until(() => texts(there).includes("second"), "the second message");
    expect(texts(there)).toEqual(["first", "second"]);
  }, 40_000);

  test("a wrong address is refused with a text for people", async () => {
    const anna = await register("Anna");
    await expect(anna.startDirect("nobody")).rejects.toMatchObject({ code: "bad_address" });
    await expect(anna.startDirect(addressOf(anna))).rejects.toMatchObject({ code: "own_address" });
    const nobody = "00000000-0000-4000-8000-000000000000";
    await expect(anna.startDirect(`${engine.url}/#${nobody}`)).rejects.toMatchObject({ code: "no_such_account" });
  });
});
