/** How the items of a conversation stand on the screen: by days, messages of one author drawn together. */

import type { ChangeItem, Item, MessageItem } from "../model";
import { dayOf } from "./format";

/** Messages of one author that are further apart are drawn apart. */
const TOGETHER_MS = 5 * 60_000;

export type Row =
  | { readonly kind: "message"; readonly item: MessageItem; readonly first: boolean; readonly last: boolean }
  | { readonly kind: "change"; readonly item: ChangeItem }
  /** The line above what is new. */
  | { readonly kind: "line" };

export interface Day {
  readonly at: number;
  readonly rows: readonly Row[];
}

/** `newFrom`: the key of the first item that is new, if there is any. */
export function arrange(items: readonly Item[], newFrom: string | undefined): readonly Day[] {
  const days: { at: number; rows: Row[] }[] = [];
  items.forEach((item, i) => {
    const at = dayOf(item.at);
    let day = days[days.length - 1];
    // What waits since yesterday stands below what came today, and clocks may be wrong: days only go forward.
    if (day === undefined || at > day.at) {
      day = { at, rows: [] };
      days.push(day);
    }
    if (item.key === newFrom) day.rows.push({ kind: "line" });
    if (item.kind === "change") {
      day.rows.push({ kind: "change", item });
      return;
    }
    const [before, after] = [items[i - 1], items[i + 1]];
    day.rows.push({
      kind: "message",
      item,
      first: item.key === newFrom || before === undefined || !together(before, item),
      last: after === undefined || after.key === newFrom || !together(item, after),
    });
  });
  return days;
}

function together(one: Item, next: Item): boolean {
  return (
    one.kind === "message" &&
    next.kind === "message" &&
    one.author.account === next.author.account &&
    Math.abs(next.at - one.at) < TOGETHER_MS &&
    dayOf(one.at) === dayOf(next.at)
  );
}

/** The first item of others beyond a seq: where what is new begins. */
export function firstNew(items: readonly Item[], readBefore: number): string | undefined {
  return items.find((item) => item.seq > readBefore && item.kind === "message" && !item.mine)?.key;
}

/** How many messages of others there are beyond a seq. */
export function countNew(items: readonly Item[], seenUpto: number): number {
  let count = 0;
  for (let i = items.length - 1; i >= 0; i -= 1) {
    const item = items[i];
    if (item === undefined || (item.seq !== 0 && item.seq <= seenUpto)) break;
    if (item.kind === "message" && !item.mine && item.seq !== 0) count += 1;
  }
  return count;
}
