/** One owner for a device's store: two of them would use one key stream twice. The owner holds a Web Lock. Whoever takes it
 *  over asks for it first, so that the owner can end what it is doing, and steals it from one that doesn't answer. */

/** How long the owner has to let go: a tab in the background may be slow, or frozen. */
const LET_GO_MS = 3_000;
/** A page that is loaded anew has it still for a moment from before. */
const RELOAD_MS = 700;

export interface Owner {
  /** Another tab has it. */
  readonly waits: () => void;
  /** It is this tab's now. */
  readonly owns: () => void;
  /** Another tab takes it. The lock is given away when this resolves, unless it was stolen already. */
  readonly lost: () => Promise<void>;
}

export type Locks = Pick<LockManager, "request">;

export class Ownership {
  readonly #channel: BroadcastChannel;
  #release: (() => void) | undefined;
  #over: Promise<void> = Promise.resolve();
  #ended = false;

  constructor(
    private readonly locks: Locks,
    private readonly name: string,
    private readonly owner: Owner,
  ) {
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = () => void this.#giveAway();
  }

  /** Takes it if nobody has it. Resolves when it is known whose it is. */
  ask(): Promise<void> {
    return new Promise((known) => {
      this.#request({ signal: AbortSignal.timeout(RELOAD_MS) }, known).catch(() => {
        if (!this.#ended) this.owner.waits();
        known();
      });
    });
  }

  /** Takes it from whoever has it. */
  async take(): Promise<void> {
    this.#channel.postMessage("let go");
    try {
      await this.#request({ signal: AbortSignal.timeout(LET_GO_MS) });
    } catch {
      if (!this.#ended && this.#release === undefined) await this.#request({ steal: true }).catch(() => undefined);
    }
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#channel.close();
    this.#letGo();
    await this.#over;
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
    if (this.#release === undefined) return;
    await this.owner.lost();
    this.#letGo();
  }

  #letGo(): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }
}
