import "fake-indexeddb/auto";
import { expect, test } from "vitest";
import { OpenedConversation } from "../../src/core/openedConversation";
import { newConversation } from "../../src/core/records";
import { Store } from "../../src/core/store";

test("a conversation whose store is closed meanwhile shows nothing, and breaks nothing", async () => {
  const store = await Store.open("opened", () => undefined);
  store.close();
  const opened = new OpenedConversation("c", {
    around: { account: "me", person: (account) => ({ account, name: "" }) },
    store,
    conversation: newConversation,
    outbox: () => [],
    read: () => Promise.resolve(),
    post: () => Promise.resolve(),
    discard: () => Promise.resolve(),
    closed: () => undefined,
  });
  await expect(opened.loadMore()).resolves.toBeUndefined();
  expect(opened.items.value).toEqual([]);
});
