/** What a device begins with: all that its store holds but items and positions, which are read when they are needed. */

import type { Store } from "./store";

export type Stored = Awaited<ReturnType<typeof load>>;

export async function load(store: Store) {
  const [conversations, outbox, undecrypted, lists, asked, parcels] = await Promise.all([
    store.all("conversations"),
    store.all("outbox"),
    store.all("undecrypted"),
    store.all("lists"),
    store.all("asked"),
    store.all("parcels"),
  ]);
  const epoch = (await store.fact("epoch")) ?? "";
  const mail = (await store.fact("mail")) ?? 0;
  const given = (await store.fact("given")) ?? [];
  const deviceKeys = await store.fact("deviceKeys");
  return { conversations, outbox, undecrypted, lists, asked, parcels, epoch, mail, given, deviceKeys };
}
