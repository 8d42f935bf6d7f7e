/** Above which item the line "new messages" stands: where the person had stopped reading, or what came while they looked
 *  elsewhere. It goes when they write. */

import { signal } from "@preact/signals";
import type { Item } from "../model";
import { firstNew } from "./arranging";

export class NewLine {
  /** The key of the first new item. */
  readonly from = signal<string | undefined>(undefined);
  #head: number | undefined;
  #waiting = 0;

  constructor(private readonly readBefore: number) {}

  /** `looking`: the person sees what comes, so it needs no line. Says whether there is a new one. */
  take(items: readonly Item[], looking: boolean): boolean {
    if (items.length === 0) return false;
    const before = this.from.peek();
    const head = headOf(items);
    const waiting = items.filter((item) => item.kind === "message" && item.mine && item.seq === 0).length;
    if (this.#head === undefined) this.from.value = firstNew(items, this.readBefore);
    else if (waiting > this.#waiting) this.from.value = undefined;
    else if (head > this.#head && this.from.peek() === undefined && !looking) this.from.value = firstNew(items, this.#head);
    this.#head = head;
    this.#waiting = waiting;
    return this.from.peek() !== before && this.from.peek() !== undefined;
  }
}

/** The greatest seq. Items that wait have none and stand last. */
export function headOf(items: readonly Item[]): number {
  return items.findLast((item) => item.seq > 0)?.seq ?? 0;
}
