/** Sessions come by the log-in links of an engine with the demo. Each test has its own engine: a link works once. */

import "fake-indexeddb/auto";
import { afterEach, describe, expect, test } from "vitest";
import { openSession } from "../../src/core/session";
import type { Session } from "../../src/core/session";
import { Engine, Wire, hasEngine, until } from "./engine";

let names = 0;
const ends: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function demo(): Promise<{ engine: Engine; first: string; second: string }> {
  const engine = await Engine.startDemo();
  ends.push(() => engine.stop());
  const [first, second] = engine.secrets;
  if (first === undefined || second === undefined) throw new Error("the engine gave no links");
  return { engine, first, second };
}

function freshName(): string {
  names += 1;
  return `entering-${names}`;
}

async function open(base: string, secret?: string, name = freshName()): Promise<Session> {
  const session = await openSession({ base, name, secret });
  ends.push(() => session.end());
  return session;
}

const phase = (session: Session) => session.phase.value;
const state = (session: Session) => (session.phase.value.kind === "entering" ? session.phase.value.state : session.phase.value.kind);

async function reaches(session: Session, wanted: string): Promise<void> {
  await until(() => state(session) === wanted, wanted);
}

async function logIn(base: string, secret: string, name?: string): Promise<Session> {
  const session = await open(base, secret, name);
  await reaches(session, "asked");
  await session.enter();
  await until(() => session.connection.value === "live", "the connection");
  return session;
}

const previews = (session: Session) => session.conversations.value.map(({ last }) => last?.state);

describe.runIf(hasEngine)("a log-in link", { timeout: 60_000 }, () => {
  test("lets a browser in, which reads what was said before and is the same after a reload", async () => {
    const { engine, first, second } = await demo();
    const name = freshName();
    const session = await logIn(engine.url, first, name);
    await until(() => previews(session).length === 2 && previews(session).every((each) => each === "text"), "the history");
    expect(session.conversations.value.some(({ unread }) => unread > 0)).toBe(true);

    const other = await logIn(engine.url, second);
    await until(() => previews(other).length === 2 && previews(other).every((each) => each === "text"), "the history");
    const direct = session.conversations.value.find(({ kind }) => kind === "direct");
    const opened = session.open(direct?.id ?? "");
    ends.push(() => opened.close());
    await opened.send("hello from a browser");
    await until(() => other.conversations.value.some(({ last }) => last?.text === "hello from a browser"), "the message");

    const { account } = session.me.value ?? {};
    await session.end();
    const again = await open(engine.url, undefined, name);
    await reaches(again, "ready");
    await until(() => again.me.value !== undefined, "the person");
    expect(again.me.value?.account).toBe(account);
  });

  test("works once, and a wrong one not at all; without it one can register", async () => {
    const { engine, first } = await demo();
    await logIn(engine.url, first);
    const late = await open(engine.url, first);
    await reaches(late, "wrong");
    const stranger = await open(engine.url, "x".repeat(43));
    await reaches(stranger, "wrong");
    stranger.dismissLink();
    await reaches(stranger, "new");
    await stranger.register("Somebody", "");
    expect(phase(stranger).kind).toBe("ready");
  });

  test("is kept over a reload until it is used, and its use goes on where an answer got lost", async () => {
    const { engine, first } = await demo();
    const wire = await Wire.to(engine.url);
    ends.push(() => wire.stop());
    const name = freshName();
    const session = await open(wire.url, first, name);
    await reaches(session, "asked");
    // The line is cut when the request is on its way to the engine, so that its answer never comes.
    wire.onSent = (piece) => {
      if (piece.includes('"device"')) setTimeout(() => wire.cut(), 0);
    };
    const entering = session.enter().catch((error: unknown) => error);
    await until(() => wire.isCut, "the cut");
    await session.end();
    await entering;
    const late = await open(engine.url, first);
    await reaches(late, "wrong");

    wire.onSent = () => undefined;
    wire.mend();
    const again = await open(wire.url, undefined, name);
    await reaches(again, "asked");
    await again.enter();
    await reaches(again, "ready");
  });

  test("in a browser that is somebody already changes nothing, and stays good", async () => {
    const { engine, first, second } = await demo();
    const session = await logIn(engine.url, first);
    const { account, name } = session.me.value ?? {};
    session.openLink(second);
    await reaches(session, "taken");
    expect(phase(session)).toMatchObject({ name });
    session.dismissLink();
    await reaches(session, "ready");
    await until(() => session.connection.value === "live", "the connection");
    expect(session.me.value?.account).toBe(account);
    await logIn(engine.url, second);
  });

  test("of an engine without the demo lets nobody in", async () => {
    const engine = await Engine.start();
    ends.push(() => engine.stop());
    await reaches(await open(engine.url, "x".repeat(43)), "wrong");
  });
});
