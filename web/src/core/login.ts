/** The answer to a challenge, and whether the server is still in the epoch in which the device knew it. */

import type { Machine } from "./machine";
import { helloPayload } from "./payloads";
import type { Conversation, Profile } from "./records";
import type { Batch } from "./store";
import type { Challenge, Hello } from "./wire";

/** How many conversations a hello names: so many fit into a frame. */
const CURSORS_MAX = 4_000;

export class Login {
  #offered = "";

  /** `epoch`: of the server when the device was last here; empty: it never was. */
  constructor(
    private readonly me: Profile,
    private readonly machine: Machine,
    private epoch: string,
  ) {}

  /** The signed hello, with the cursors of the most recent conversations. */
  async answer({ nonce, epoch }: Challenge, conversations: readonly Conversation[]): Promise<Hello> {
    const { server, account, device } = this.me;
    this.#offered = epoch;
    const recent = [...conversations].sort((one, other) => other.at - one.at).slice(0, CURSORS_MAX);
    return {
      t: "hello",
      account,
      device,
      signature: await this.machine.sign(helloPayload({ nonce, server, account, device })),
      cursors: Object.fromEntries(recent.map((each) => [each.id, each.cursor])),
      ...(recent.length < conversations.length ? { partial: true } : {}),
      epoch: this.epoch,
    };
  }

  /** The server has said welcome; whether it was restored since the device was here. */
  takeEpoch(batch: Batch): boolean {
    if (this.#offered === this.epoch) return false;
    const isRestored = this.epoch !== "";
    this.epoch = this.#offered;
    batch.putFact("epoch", this.epoch);
    return isRestored;
  }
}
