/** What one turn of the device's work has gathered: what is to be stored, sent and shown when it ends. */

import { Batch } from "./store";
import type { Store } from "./store";
import type { Held } from "./records";
import type { ClientFrame } from "./wire";

export class Gathered {
  batch = new Batch();
  frames: ClientFrame[] = [];
  /** Conversations of which the server is to be told how far this device has come. */
  readonly acks = new Set<string>();
  /** Conversations whose read mark the server is to be told. */
  readonly reads = new Set<string>();
  /** The number up to which mail was taken in; 0: the server knows it. */
  mail = 0;
  /** Conversations whose records have changed. */
  readonly touched = new Set<string>();
  /** Conversations whose unread messages are to be counted anew. */
  readonly recount = new Set<string>();
  /** Conversations of which a restored server has lost what lies beyond a seq. */
  gone = new Map<string, number>();
  #items = new Map<string, Held>();

  put(held: Held): void {
    this.#items.set(`${held.c} ${held.seq}`, held);
    this.batch.put("items", [held.c, held.seq], held);
    this.touched.add(held.c);
  }

  /** An item as it will be stored, or is. */
  async find(store: Store, c: string, seq: number): Promise<Held | undefined> {
    return this.#items.get(`${c} ${seq}`) ?? store.item(c, seq);
  }

  /** What has gathered of items since they were taken. */
  get items(): Iterable<Held> {
    return this.#items.values();
  }

  takeItems(): readonly Held[] {
    const items = [...this.#items.values()];
    this.#items = new Map();
    return items;
  }

  takeBatch(): Batch {
    const { batch } = this;
    this.batch = new Batch();
    return batch;
  }

  takeFrames(): readonly ClientFrame[] {
    const { frames } = this;
    this.frames = [];
    return frames;
  }
}
