/** Keys that somebody gives, who may mean no good. */

import "fake-indexeddb/auto";
import { beforeEach, describe, expect, test, vi } from "vitest";
import type { Api } from "../../src/core/api";
import { Asking } from "../../src/core/asking";
import { Exchange } from "../../src/core/exchange";
import type { Side } from "../../src/core/exchange";
import { Lists } from "../../src/core/lists";
import { Machine } from "../../src/core/machine";
import type { ExportedKey, GivenKey } from "../../src/core/machine";
import { toBase64 } from "../../src/core/payloads";
import type { Questions } from "../../src/core/questions";
import { Batch, Store } from "../../src/core/store";

const SERVER = "signet.example";
const [ANNA, BEN] = ["aaaaaaaa-1111-4111-8111-111111111111", "bbbbbbbb-2222-4222-8222-222222222222"] as const;
const TALK = "c4a8e1d2-3b5f-5a6c-b7d8-9e0f1a2b3c4d";

let run = 0;

/** As an exported key looks that belongs to a session with this signing key. */
function keyOf(signingKey: Uint8Array): string {
  return toBase64(new Uint8Array([1, ...new Uint8Array(4 + 128).fill(7), ...signingKey]));
}

describe("a key that is given", () => {
  let anna: Machine;
  let ben: Machine;
  let lists: Lists;
  let store: Store;

  beforeEach(async () => {
    run += 1;
    const open = (account: string) => Machine.open({ server: SERVER, account, device: "web" }, `asking-${run}-${account}`);
    [anna, ben] = await Promise.all([open(ANNA), open(BEN)]);
    store = await Store.open(`asking-${run}`, () => undefined);
    lists = new Lists([], SERVER);
    lists.know(ANNA, "web", { ed25519: anna.key, curve25519: anna.curve25519 });
  });

  function asking(session: string): Asking {
    return new Asking({ account: BEN, device: "web" }, ben, lists, store, [{ c: TALK, session, at: Date.now() }]);
  }

  function given(session: string, key: string): GivenKey {
    return {
      conversation: TALK, session, key,
      from: { account: ANNA, curve25519: anna.curve25519 },
      owner: { account: ANNA, device: "web" },
    };
  }

  test("is taken where it is that of the session", async () => {
    const { session, key } = await sessionOf(anna);
    const each = given(session, key.key);
    expect(asking(session).isAwaited(each)).toBe(true);
    expect(await asking(session).take(each)).toBe(true);
    expect(await ben.exportKey(each)).toMatchObject({ key: key.key });
  });

  test("is not awaited where nobody asked, or it is another session's, or none", async () => {
    const { session, key } = await sessionOf(anna);
    const other = toBase64(new Uint8Array(32).fill(9));
    expect(asking(other).isAwaited(given(session, key.key))).toBe(false);
    for (const wrong of [key.key, "", "no base64!", "AQ", toBase64(new Uint8Array(165))]) {
      expect(asking(other).isAwaited(given(other, wrong))).toBe(false);
    }
  });

  test("is kept with the mail that brought it, and taken in by the next start where the first one was killed", async () => {
    const { session, key } = await sessionOf(anna);
    const each = given(session, key.key);
    // The first waits for the giver's devices, and is never heard of again.
    const first = exchange(session, { queryKeys: () => new Promise(() => undefined) }, []);
    await turn((batch) => first.takeMail([], [each], batch));
    first.run();
    expect(await store.fact("given")).toEqual([each]);

    vi.spyOn(lists, "isConfirmed").mockReturnValue(true);
    const came = new Promise((resolve) => {
      const second = exchange(session, {}, [each], resolve);
      second.run();
      second.wake();
    });
    expect(await came).toEqual([{ conversation: TALK, session }]);
    expect(await ben.exportKey(each)).toMatchObject({ key: key.key });
    await vi.waitFor(async () => expect(await store.fact("given")).toEqual([]));
  });

  test("is asked for once more after a start, where the page may have been closed over the answer", async () => {
    const { session } = await sessionOf(anna);
    const wanted = { conversation: TALK, session, sender: ANNA };
    vi.spyOn(lists, "activeOf").mockImplementation((account) => (account === ANNA ? ["web"] : []));
    const again = asking(session);
    expect(again.ask(wanted)).toBeUndefined();
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 65_000 });
    again.askOnceMore();
    expect(again.ask(wanted)).toMatchObject({ to: [{ account: ANNA, device: "web" }] });
    again.askOnceMore();
    expect(again.ask(wanted)).toBeUndefined();
    vi.useRealTimers();
  });

  async function turn(work: (batch: Batch) => Promise<void> | void): Promise<void> {
    const batch = new Batch();
    await work(batch);
    await store.commit(batch);
  }

  /** Without a server but for what `api` says of it. */
  function exchange(
    session: string, api: Partial<Record<keyof Api, unknown>>, stored: readonly GivenKey[], came: (sessions: unknown) => void = () => undefined,
  ): Exchange {
    const side: Partial<Side> = { turn, needing: () => [], sessionsCame: async (sessions) => came(sessions) };
    const me = { account: BEN, device: "web", server: SERVER };
    const questions = { learnAll: async () => undefined, askUndelivered: async () => undefined } as unknown as Questions;
    const parts = { me, api: api as unknown as Api, machine: ben, lists, asking: asking(session), questions };
    return new Exchange(parts, side as Side, { parcels: [], given: stored, deviceKeys: undefined });
  }

  test("that OlmMachine can't take in breaks nothing", async () => {
    const noPoint = new Uint8Array(32).fill(2);
    const session = toBase64(noPoint);
    const each = given(session, keyOf(noPoint));
    expect(asking(session).isAwaited(each)).toBe(true);
    expect(await asking(session).take(each)).toBe(false);
    expect(await ben.exportKey(each)).toBeUndefined();
  });
});

/** A session of this machine's, with its key. */
async function sessionOf(machine: Machine): Promise<{ session: string; key: ExportedKey }> {
  await machine.share(TALK, []);
  const { session_id: session } = JSON.parse(await machine.encrypt(TALK, { kind: "text", text: "" })) as { session_id: string };
  const key = await machine.exportKey({ conversation: TALK, session });
  if (key === undefined) throw new Error("there is no key");
  return { session, key };
}
