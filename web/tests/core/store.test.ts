import "fake-indexeddb/auto";
import { expect, test } from "vitest";
import { Batch, Store, Taken } from "../../src/core/store";

function mail(number: number): Batch {
  const batch = new Batch();
  batch.putFact("mail", number);
  return batch;
}

test("whoever has opened the store last writes, and nobody else", async () => {
  const first = await Store.open("owned", () => undefined);
  await first.commit(mail(1));
  const second = await Store.open("owned", () => undefined);
  await second.commit(mail(2));
  await expect(first.checkOwned()).rejects.toThrow(Taken);
  await expect(first.commit(mail(3))).rejects.toThrow(Taken);
  await second.checkOwned();
  expect(await second.fact("mail")).toBe(2);
});
