/** One owner for a device's store: two of them would use one key stream twice. The owner holds a Web Lock, and says so when
 *  it is asked. Whoever takes it over asks for it first, so that the owner can end what it is doing, and steals it from one
 *  that doesn't answer. */

import { pause } from "./api";

/** How long the owner has to answer or to let go: a tab in the background may be slow, or frozen, and a page that is loaded
 *  anew has the lock still for a moment from before. */
const PATIENCE_MS = 3_000;

type Saying = "whose" | "mine" | "let go";

export interface Owner {
  /** Another tab has it. */
  readonly waits: () => void;
  /** It is this tab's now. */
  readonly owns: () => void;
  /** Another tab takes it. The lock is given away when this resolves, unless it was stolen already. */
  readonly lost: () => Promise<void>;
}

export type Locks = Pick<LockManager, "request" | "query">;

export class Ownership {
  readonly #channel: BroadcastChannel;
  #release: (() => void) | undefined;
  #over: Promise<void> = Promise.resolve();
  /** Until it is known whose it is; aborted, it is another tab's. */
  #asking: AbortController | undefined;
  #ended = false;

  constructor(
    private readonly locks: Locks,
    private readonly name: string,
    private readonly owner: Owner,
  ) {
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<Saying>) => void this.#hear(data);
  }

  /** Takes it if nobody has it. Resolves when it is known whose it is. */
  ask(): Promise<void> {
    const asking = new AbortController();
    this.#asking = asking;
    this.#say("whose");
    void this.#giveUpWhereHeld(asking);
    return new Promise((known) => {
      const settled = (): void => {
        this.#asking = undefined;
        asking.abort();
        known();
      };
      this.#request({ signal: asking.signal }, settled).catch(() => {
        if (!this.#ended) this.owner.waits();
        settled();
      });
    });
  }

  /** Takes it from whoever has it. */
  async take(): Promise<void> {
    this.#say("let go");
    try {
      await this.#request({ signal: AbortSignal.timeout(PATIENCE_MS) });
    } catch {
      if (!this.#ended && this.#release === undefined) await this.#request({ steal: true }).catch(() => undefined);
    }
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#asking?.abort();
    this.#channel.close();
    this.#letGo();
    await this.#over;
  }

  #say(saying: Saying): void {
    this.#channel.postMessage(saying);
  }

  async #hear(saying: Saying): Promise<void> {
    if (saying === "mine") this.#asking?.abort();
    else if (this.#release === undefined) return;
    else if (saying === "whose") this.#say("mine");
    else await this.#giveAway();
  }

  /** A lock that isn't granted need not be held: the browser may be busy. */
  async #giveUpWhereHeld(asking: AbortController): Promise<void> {
    while (!asking.signal.aborted) {
      await pause(PATIENCE_MS, asking.signal);
      const { held = [] } = await this.locks.query();
      if (held.some((lock) => lock.name === this.name)) asking.abort();
    }
  }

  #request(options: LockOptions, known: () => void = () => undefined): Promise<void> {
    const over = this.#hold(options, known);
    this.#over = over.catch(() => undefined);
    return over;
  }

  /** Resolves when it is over, and throws where it was not granted. */
  async #hold(options: LockOptions, known: () => void): Promise<void> {
    let had = false;
    try {
      await this.locks.request(this.name, options, async () => {
        if (this.#ended) return;
        had = true;
        const released = new Promise<void>((resolve) => (this.#release = resolve));
        this.#say("mine");
        this.owner.owns();
        known();
        await released;
      });
    } catch (error) {
      // Not granted in time; or, once it was, stolen.
      if (!had) throw error;
      this.#release = undefined;
      if (!this.#ended) await this.owner.lost();
    }
  }

  async #giveAway(): Promise<void> {
    await this.owner.lost();
    this.#letGo();
  }

  #letGo(): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }
}
