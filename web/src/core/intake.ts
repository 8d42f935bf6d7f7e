/** Order: turns what arrives, in whatever order and however often, into every item once, in order of seq. Pure: no I/O
 *  and no clock. What comes at once beyond the cursor waits; if the hole before it stays, a fetch from the cursor closes
 *  it. */

import type { Fetch, Item, Page } from "./wire";

/** How many items of a conversation may wait behind a hole; further ones are dropped: the fetch brings them, too. */
const AHEAD_MAX = 1_000;
/** How many fetches may be unanswered; further holes wait their turn. */
const FETCHES_MAX = 16;
const FETCH_ITEMS = 200;

/** Everything that the account may see up to the cursor is held. */
export interface Cursor {
  cursor: number;
}

interface Hole {
  /** There is something up to this seq. */
  wanted: number;
  ahead: Map<number, Item>;
  /** The id of the unanswered fetch. */
  fetch: string;
  fetchedAfter: number;
}

export class Intake {
  readonly #cursorOf: (conversation: string) => Cursor;
  readonly #holes = new Map<string, Hole>();
  readonly #fetching = new Map<string, string>();
  #fetches = 0;

  /** `cursorOf` gives what is shared with the caller: the cursor in it moves as items are given out. */
  constructor(cursorOf: (conversation: string) => Cursor) {
    this.#cursorOf = cursorOf;
  }

  get hasHoles(): boolean {
    return this.#holes.size > 0;
  }

  /** What can be stored now: the item, and what waited for it; nothing where it is held already or must wait. */
  push(item: Item): Item[] {
    const at = this.#cursorOf(item.c);
    if (item.seq <= at.cursor) return [];
    if (item.seq === at.cursor + 1 && !this.#holes.has(item.c)) {
      at.cursor = item.seq;
      return [item];
    }
    const hole = this.#hole(item.c, item.seq);
    if (hole.ahead.size < AHEAD_MAX || item.seq === at.cursor + 1) hole.ahead.set(item.seq, item);
    return this.#advance(item.c, at, hole);
  }

  /** What can be stored now of a page, resuming or fetched, and of what waited for it. */
  page(page: Page): Item[] {
    const at = this.#cursorOf(page.c);
    const items = inOrder(page.items, at.cursor, page.c);
    // What the page leaves out up to `upto`, the account may not see.
    at.cursor = Math.max(at.cursor, page.upto);
    const hole = this.#holes.get(page.c);
    if (hole === undefined) return items;
    const answered = hole.fetch !== "" && hole.fetch === page.id;
    if (answered) {
      this.#fetching.delete(hole.fetch);
      hole.fetch = "";
    }
    items.push(...this.#advance(page.c, at, hole));
    // The server does not have what was wanted. Not asked again and again.
    if (answered && page.upto <= hole.fetchedAfter) this.#holes.delete(page.c);
    return items;
  }

  /** The conversation is said to have something up to `seq`. */
  want(conversation: string, seq: number): void {
    if (seq > this.#cursorOf(conversation).cursor) this.#hole(conversation, seq);
  }

  /** The fetches that are to be sent now. */
  fetches(): Fetch[] {
    const frames: Fetch[] = [];
    for (const [c, hole] of this.#holes) {
      if (this.#fetching.size >= FETCHES_MAX) break;
      if (hole.fetch !== "") continue;
      this.#fetches += 1;
      hole.fetch = `f${this.#fetches}`;
      hole.fetchedAfter = this.#cursorOf(c).cursor;
      this.#fetching.set(hole.fetch, c);
      frames.push({ t: "fetch", id: hole.fetch, c, after: hole.fetchedAfter, limit: FETCH_ITEMS });
    }
    return frames;
  }

  /** Whether this id is of a fetch. Where it may be retried, `fetches` gives it again; else the hole is left. */
  refused(fetch: string, retry: boolean): boolean {
    const conversation = this.#fetching.get(fetch);
    if (conversation === undefined) return false;
    this.#fetching.delete(fetch);
    const hole = this.#holes.get(conversation);
    if (hole !== undefined) hole.fetch = "";
    if (!retry) this.#holes.delete(conversation);
    return true;
  }

  /** The connection is gone, and with it every unanswered fetch; the next one resumes from the cursors. */
  reset(): void {
    this.#holes.clear();
    this.#fetching.clear();
  }

  #hole(conversation: string, wanted: number): Hole {
    const hole = this.#holes.get(conversation) ?? { wanted, ahead: new Map(), fetch: "", fetchedAfter: 0 };
    hole.wanted = Math.max(hole.wanted, wanted);
    this.#holes.set(conversation, hole);
    return hole;
  }

  /** Gives out what waited and follows the cursor now; closes the hole where nothing is missing any more. */
  #advance(conversation: string, at: Cursor, hole: Hole): Item[] {
    const items: Item[] = [];
    for (let next = hole.ahead.get(at.cursor + 1); next !== undefined; next = hole.ahead.get(at.cursor + 1)) {
      hole.ahead.delete(next.seq);
      at.cursor = next.seq;
      items.push(next);
    }
    for (const seq of hole.ahead.keys()) if (seq <= at.cursor) hole.ahead.delete(seq);
    if (at.cursor >= hole.wanted) {
      this.#holes.delete(conversation);
      this.#fetching.delete(hole.fetch);
    }
    return items;
  }
}

/** A server's page is to be in order and of one conversation; what is not is dropped. */
function inOrder(items: readonly Item[], after: number, conversation: string): Item[] {
  let last = after;
  return items.filter((item) => {
    if (item.c !== conversation || item.seq <= last) return false;
    last = item.seq;
    return true;
  });
}
