/** The reading position in a conversation. Who is at the end stays there when something comes; for whoever is not, the
 *  row at the top stays where it is, whatever comes above or below or changes its height. The browser's own scroll
 *  anchoring is off (styles/conversation.css): Safari has none, and two that hold the same thing tear at it. */

import { signal } from "@preact/signals";

/** Closer to the end than this is at the end. */
const END_PX = 40;
/** Earlier items are fetched before the person gets there. */
const NEAR_START_PX = 800;
const LINE_FROM_TOP_PX = 96;

export class Reading {
  readonly atEnd = signal(true);
  /** The greatest seq that has been on the screen while the person looked at it. */
  readonly seenUpto = signal(0);
  #anchor: { readonly row: Element; readonly top: number } | undefined;
  #scroller: HTMLElement | undefined;
  #rows: HTMLCollectionOf<Element> | undefined;

  /** `nearStart` is called, often, while the start of what is rendered is near. */
  constructor(private readonly nearStart: () => void) {}

  attach(scroller: HTMLElement, content: HTMLElement): () => void {
    this.#scroller = scroller;
    this.#rows = content.getElementsByClassName("row");
    const moved = (): void => this.#moved();
    const held = (): void => this.hold();
    const observer = new ResizeObserver(held);
    observer.observe(scroller);
    observer.observe(content);
    scroller.addEventListener("scroll", moved, { passive: true });
    window.addEventListener("focus", moved);
    document.addEventListener("visibilitychange", moved);
    return () => {
      observer.disconnect();
      scroller.removeEventListener("scroll", moved);
      window.removeEventListener("focus", moved);
      document.removeEventListener("visibilitychange", moved);
    };
  }

  /** Something above, below or around has changed its size: put the person back to where they were. */
  hold(): void {
    const scroller = this.#scroller;
    if (scroller === undefined) return;
    if (this.atEnd.peek()) {
      scroller.scrollTop = scroller.scrollHeight;
    } else if (this.#anchor?.row.isConnected === true) {
      const slipped = topIn(scroller, this.#anchor.row) - this.#anchor.top;
      if (Math.abs(slipped) >= 1) scroller.scrollTop += slipped;
    }
    this.#look();
  }

  toEnd(): void {
    const scroller = this.#scroller;
    if (scroller === undefined) return;
    this.atEnd.value = true;
    scroller.scrollTop = scroller.scrollHeight;
    this.#moved();
  }

  toLine(line: Element): void {
    const scroller = this.#scroller;
    if (scroller === undefined) return;
    scroller.scrollTop += topIn(scroller, line) - LINE_FROM_TOP_PX;
    // Not only when the event comes: till then a change of size would lead to the end.
    this.#moved();
  }

  #moved(): void {
    const scroller = this.#scroller;
    if (scroller === undefined) return;
    this.atEnd.value = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < END_PX;
    const row = this.#firstBelow(0);
    this.#anchor = row === undefined ? undefined : { row, top: topIn(scroller, row) };
    this.#look();
  }

  #look(): void {
    const scroller = this.#scroller;
    if (scroller === undefined) return;
    if (scroller.scrollTop < NEAR_START_PX) this.nearStart();
    if (document.visibilityState !== "visible" || !document.hasFocus()) return;
    const seq = this.#seqAbove(scroller.clientHeight);
    if (seq > this.seenUpto.peek()) this.seenUpto.value = seq;
  }

  /** The first row that reaches below this height of the scroller. Rows stand in order, so halving finds it. */
  #firstBelow(height: number): Element | undefined {
    return this.#rows?.[this.#indexBelow(height)];
  }

  #indexBelow(height: number): number {
    const [scroller, rows] = [this.#scroller, this.#rows];
    if (scroller === undefined || rows === undefined) return 0;
    let [low, high] = [0, rows.length];
    const origin = scroller.getBoundingClientRect().top;
    while (low < high) {
      const middle = (low + high) >> 1;
      const bottom = (rows[middle]?.getBoundingClientRect().bottom ?? 0) - origin;
      if (bottom > height) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The seq of the last row that ends above this height, of those that have one. */
  #seqAbove(height: number): number {
    for (let i = this.#indexBelow(height + 1) - 1; i >= 0; i -= 1) {
      const row = this.#rows?.[i];
      const seq = row instanceof HTMLElement ? Number(row.dataset["seq"] ?? 0) : 0;
      if (seq > 0) return seq;
    }
    return 0;
  }
}

function topIn(scroller: HTMLElement, row: Element): number {
  return row.getBoundingClientRect().top - scroller.getBoundingClientRect().top;
}
