/** What a push did not say of a conversation, asked of the server: what it is and who is in it, and what is undelivered. */

import { ApiRefused, pause } from "./api";
import type { Api } from "./api";
import type { Receiving } from "./receiving";
import type { Store } from "./store";
import type { Turn } from "./turns";

/** How often a conversation is asked about that changes while it is answered. */
const ASK_MAX = 5;
/** Within how long clients ask what is undelivered, after they were told to. */
const UNDELIVERED_SPREAD_MS = 1_000;

export class Questions {
  readonly #unknown = new Set<string>();
  readonly #unsure = new Set<string>();

  constructor(
    private readonly api: Api,
    private readonly store: Store,
    private readonly receiving: Receiving,
    private readonly turn: Turn,
  ) {}

  /** It is not known what this conversation is. */
  isUnknown(conversation: string): void {
    this.#unknown.add(conversation);
  }

  /** It is not known what is undelivered there. */
  isUnsure(conversation: string): void {
    this.#unsure.add(conversation);
  }

  async learn(conversation: string): Promise<void> {
    if (!this.receiving.conversations.get(conversation)?.known) await this.askAbout(conversation);
  }

  /** Takes in what a conversation is and who is in it; gives its head. Throws ApiRefused. */
  async askAbout(id: string): Promise<number> {
    for (let attempt = 1; ; attempt += 1) {
      const shown = await this.api.conversation(id);
      const { head } = shown.overview;
      let isOvertaken = false;
      await this.turn(async () => {
        // A change may have overtaken the answer, which knows nothing of it.
        const later = await this.store.items(id, head);
        isOvertaken = later.some(({ item }) => item.t === "change") && attempt < ASK_MAX;
        if (!isOvertaken) await this.receiving.know(shown);
      });
      if (!isOvertaken) return head;
    }
  }

  async learnAll(): Promise<void> {
    for (const conversation of [...this.#unknown]) {
      try {
        await this.askAbout(conversation);
      } catch (error) {
        // The next welcome says it.
        if (!(error instanceof ApiRefused) || error.retry) throw error;
      }
      this.#unknown.delete(conversation);
    }
  }

  async askUndelivered(aborted: AbortSignal): Promise<void> {
    if (this.#unsure.size === 0) return;
    // In a large group many are told at once to ask.
    await pause(Math.random() * UNDELIVERED_SPREAD_MS, aborted);
    for (const conversation of [...this.#unsure]) {
      this.#unsure.delete(conversation);
      try {
        await this.#askUndelivered(conversation);
      } catch (error) {
        if (!(error instanceof ApiRefused) || error.retry) {
          this.#unsure.add(conversation);
          throw error;
        }
      }
    }
  }

  async #askUndelivered(conversation: string): Promise<void> {
    const changes = this.receiving.changesOf(conversation);
    if (changes === undefined) return;
    const seqs = await this.api.undelivered(conversation);
    await this.turn(() => this.receiving.knowUndelivered(conversation, seqs, changes));
  }
}
