/** What the server is told of how far this device has come: what it holds, what its person has read, and which mail it has
 *  taken in. Nothing is sent here: the frames go to `gathered`. */

import type { Gathered } from "./gathered";
import type { Machine } from "./machine";
import { receiptPayload } from "./payloads";
import type { Reading } from "./reading";
import type { Address, Conversation } from "./records";
import type { Ack } from "./wire";

export class Telling {
  /** Conversations of which the server refused a mark for now. */
  readonly #refused = new Set<string>();

  constructor(
    private readonly me: Address,
    private readonly machine: Pick<Machine, "sign">,
    private readonly gathered: Gathered,
    private readonly reading: Reading,
    private readonly conversation: (id: string) => Conversation,
  ) {}

  /** It doesn't say which of the marks: later both are said again. */
  refused(conversation: string): void {
    this.#refused.add(conversation);
  }

  sayRefusedAgain(): void {
    for (const conversation of this.#refused) {
      this.reading.sayAgain(conversation);
      this.gathered.acks.add(conversation);
      this.gathered.reads.add(conversation);
    }
    this.#refused.clear();
  }

  /** Makes frames of what has gathered. Only after the welcome, which says what the server has not heard. */
  async say(): Promise<void> {
    const { acks, reads } = this.gathered;
    for (const id of new Set([...acks, ...reads])) {
      const conversation = this.conversation(id);
      // What a conversation is decides how it is said.
      if (!conversation.known) continue;
      await this.#sayOf(conversation, acks.has(id), reads.has(id));
      acks.delete(id);
      reads.delete(id);
    }
    if (this.gathered.mail > 0) {
      this.gathered.frames.push({ t: "took", upto: this.gathered.mail });
      this.gathered.mail = 0;
    }
  }

  async #sayOf({ id, protection, cursor, read }: Conversation, hasNew: boolean, isRead: boolean): Promise<void> {
    const { frames } = this.gathered;
    if (protection === "end_to_end") {
      for (const ack of this.reading.acks(id, cursor, read)) frames.push(await this.#signed(ack));
      return;
    }
    if (hasNew) frames.push({ t: "ack", c: id, upto: cursor, read: 0, undecryptable: [], repaired: [] });
    if (isRead) frames.push({ t: "read", c: id, upto: read });
  }

  async #signed(ack: Ack): Promise<Ack> {
    const payload = receiptPayload({
      conversation: ack.c,
      account: this.me.account,
      device: this.me.device,
      delivered: ack.upto,
      read: ack.read,
      undecryptable: ack.undecryptable,
      repaired: ack.repaired,
    });
    return { ...ack, signature: await this.machine.sign(payload) };
  }
}
