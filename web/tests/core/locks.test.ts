import { afterAll, describe, expect, test } from "vitest";
import { pause } from "../../src/core/api";
import { Ownership } from "../../src/core/locks";
import type { Locks } from "../../src/core/locks";
import { until } from "./engine";

const { locks } = navigator;

/** A browser that is busy: it grants nothing within the time that an owner has to answer. */
const busy: Locks = {
  query: () => locks.query(),
  request: async (name: string, options: unknown, granted?: unknown) => {
    await pause(3_500);
    return locks.request(name, options as LockOptions, granted as LockGrantedCallback<void>);
  },
};

const tabs: Ownership[] = [];
afterAll(async () => {
  await Promise.all(tabs.splice(0).map((tab) => tab.end()));
});

/** A tab that notes what it is told. */
function tab(name: string, manager: Locks = locks): { readonly tab: Ownership; readonly told: string[] } {
  const told: string[] = [];
  const note = (what: string) => (): void => void told.push(what);
  const opened = new Ownership(manager, name, {
    waits: note("waits"),
    owns: note("owns"),
    lost: () => Promise.resolve(note("lost")()),
  });
  tabs.push(opened);
  return { tab: opened, told };
}

/** Somebody has the lock and says nothing; gives what lets go of it. */
async function silent(name: string): Promise<() => void> {
  let release = (): void => undefined;
  await new Promise<void>((had) => {
    const over = locks.request(name, () => {
      had();
      return new Promise<void>((resolve) => (release = resolve));
    });
    over.catch(() => undefined);
  });
  return release;
}

describe.concurrent("whose the device is", () => {
  test("it is the first one's, and the second one is told so without a wait", async () => {
    const [first, second] = [tab("told"), tab("told")];
    await first.tab.ask();
    expect(first.told).toEqual(["owns"]);
    const began = performance.now();
    await second.tab.ask();
    expect(second.told).toEqual(["waits"]);
    expect(performance.now() - began).toBeLessThan(2_000);
    void second.tab.take();
    await until(() => second.told.length === 2);
    expect([first.told, second.told]).toEqual([["owns", "lost"], ["waits", "owns"]]);
  });

  test("two that ask at once: one has it, the other waits", async () => {
    const [first, second] = [tab("at once"), tab("at once")];
    await Promise.all([first.tab.ask(), second.tab.ask()]);
    expect([...first.told, ...second.told].sort()).toEqual(["owns", "waits"]);
  });

  test("nobody has it and the browser is slow to grant it: it is granted", async () => {
    const only = tab("busy", busy);
    await only.tab.ask();
    expect(only.told).toEqual(["owns"]);
  });

  test("the page of before a reload has it for another second", async () => {
    const release = await silent("reload");
    const reloaded = tab("reload");
    const asked = reloaded.tab.ask();
    await pause(1_000);
    release();
    await asked;
    expect(reloaded.told).toEqual(["owns"]);
  });

  test("one that has it and says nothing is waited for, and then it is another's; it can be stolen", async () => {
    await silent("frozen");
    const waiting = tab("frozen");
    await waiting.tab.ask();
    expect(waiting.told).toEqual(["waits"]);
    void waiting.tab.take();
    await until(() => waiting.told.length === 2);
    expect(waiting.told).toEqual(["waits", "owns"]);
  }, 15_000);
});
