/** When the server was restored from a backup: what the device holds beyond it is kept apart, and what the device itself had
 *  said is made ready to be sent again, with the same ids, so that it is stored once. */

import type { Gathered } from "./gathered";
import { decodeHeader } from "./payloads";
import type { Address, Conversation, Held, Outgoing } from "./records";
import type { Store } from "./store";
import type { Overview } from "./wire";

/** How far back the last message is looked for, behind changes. */
const LOOK_BACK = 50;

/** Up to which seqs the server has what the device knows of, of the conversations where that is more. One that the welcome
 *  doesn't name began after the backup. */
export function keptOf(
  shown: readonly Overview[],
  conversations: ReadonlyMap<string, Conversation>,
): Map<string, number> {
  const overviews = new Map(shown.map((overview) => [overview.c, overview]));
  const kept = new Map<string, number>();
  for (const conversation of conversations.values()) {
    const overview = overviews.get(conversation.id);
    const seq = overview === undefined ? 0 : overview.kept;
    if (seq !== null && reach(conversation) > seq) kept.set(conversation.id, seq);
  }
  return kept;
}

/** A welcome tells ticks and what was read elsewhere before the pages bring the messages. */
function reach({ cursor, read, tickDelivered, tickRead, undelivered }: Conversation): number {
  return Math.max(cursor, read, tickDelivered, tickRead, ...undelivered);
}

/** Takes a conversation back to what was kept; gives what this device had said beyond it, to be sent again. */
export async function goBack(
  conversation: Conversation,
  kept: number,
  me: Address,
  store: Store,
  gathered: Gathered,
): Promise<Omit<Outgoing, "order">[]> {
  const c = conversation.id;
  const lost = await store.items(c, kept);
  for (const held of lost) {
    gathered.batch.put("lost", [c, held.seq], held);
    gathered.batch.delete("items", [c, held.seq]);
  }
  for (const { session, index, c: where, seq } of await store.all("positions")) {
    // What comes again as it was is no replay.
    if (where === c && seq > kept) gathered.batch.delete("positions", [session, index]);
  }
  conversation.cursor = Math.min(conversation.cursor, kept);
  conversation.read = Math.min(conversation.read, kept);
  conversation.tickDelivered = Math.min(conversation.tickDelivered, kept);
  conversation.tickRead = Math.min(conversation.tickRead, kept);
  conversation.undelivered = new Set([...conversation.undelivered].filter((seq) => seq <= kept));
  conversation.members = new Map();
  conversation.membersAt = 0;
  const last = (await store.itemsBefore(c, kept + 1, LOOK_BACK)).findLast(({ item }) => item.t === "message");
  if (last === undefined) delete conversation.last;
  else conversation.last = last;
  gathered.touched.add(c);
  gathered.gone.set(c, kept);
  return lost.flatMap((held) => again(held, me));
}

function again(held: Held, me: Address): Omit<Outgoing, "order">[] {
  const { item, clear, c: conversation } = held;
  if (item.t !== "message" || clear === undefined) return [];
  const header = decodeHeader(item.header);
  if (header?.s !== me.account || header.d !== me.device) return [];
  return [{ id: header.id, conversation, clear, at: Math.floor(item.at / 1_000), header: "", body: "", signature: "" }];
}
