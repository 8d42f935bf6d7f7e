/** Turns: whatever changes a device is done one after the other, at once or after a while. */

import type { Batch } from "./store";

/** The device was closed: what still wants a turn gets none. */
export class Closed extends Error {}

export interface Around {
  before(): Promise<void>;
  /** What follows from the work; part of its turn. */
  after(): Promise<void>;
  /** Work, or what is around it, has thrown. */
  failed(error: unknown): void;
}

/** Does something in a turn, which stores what it puts into the batch. Throws what it throws, and Closed. */
export type Turn = (work: (batch: Batch) => Promise<void> | void) => Promise<void>;

export type Work = () => Promise<void> | void;

export class Turns {
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #line: Promise<void> = Promise.resolve();
  #ended = false;

  constructor(private readonly around: Around) {}

  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when it is done, with all that follows from it. Throws what the work throws, and Closed. */
  async turn(work: Work): Promise<void> {
    const done = this.#line.then(async () => {
      if (this.#ended) throw new Closed("the device was closed");
      await this.around.before();
      await work();
      await this.around.after();
    });
    this.#line = done.catch((error: unknown) => this.around.failed(error));
    await done;
  }

  /** A turn that nobody waits for. */
  soon(work: Work): void {
    this.turn(work).catch(() => undefined);
  }

  /** Once for however many say so until then. */
  later(name: string, ms: number, work: Work): void {
    if (this.#ended || this.#timers.has(name)) return;
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      this.soon(work);
    }, ms);
    this.#timers.set(name, timer);
  }

  /** No turn begins any more. */
  end(): void {
    this.#ended = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  /** Resolves when the turn that is under way is over. */
  over(): Promise<void> {
    return this.#line;
  }
}
