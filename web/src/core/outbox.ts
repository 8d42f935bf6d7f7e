/** What is to be sent, in order: one unanswered message in each conversation, so that a refused one that may be retried is
 *  never overtaken by the next. Pure: no I/O and no clock. */

import type { Outgoing } from "./records";

export interface Waiting {
  message: Outgoing;
  /** When it went out on the present connection, in milliseconds since 1970; 0: it did not. */
  sentAt: number;
  /** How often it was refused with leave to try again. */
  refusals: number;
  /** The server has it on disk; it stays here until it is an item, which a hole before it may put off. */
  answered: boolean;
}

export class Outbox {
  readonly #byId = new Map<string, Waiting>();
  readonly #failed = new Map<string, Outgoing>();
  #order = 0;

  constructor(messages: readonly Outgoing[]) {
    for (const message of [...messages].sort((one, other) => one.order - other.order)) this.add(message);
  }

  nextOrder(): number {
    return this.#order + 1;
  }

  add(message: Outgoing): void {
    this.#order = Math.max(this.#order, message.order);
    if (message.refused !== undefined) this.#failed.set(message.id, message);
    else this.#byId.set(message.id, { message, sentAt: 0, refusals: 0, answered: false });
  }

  get(id: string): Waiting | undefined {
    return this.#byId.get(id);
  }

  /** Takes out a message that has become an item; whether there was one. */
  remove(id: string): boolean {
    return this.#byId.delete(id);
  }

  /** Keeps a message as refused for good. */
  fail(refused: Outgoing): void {
    this.#byId.delete(refused.id);
    this.#failed.set(refused.id, refused);
  }

  /** Forgets a message that was refused for good; whether there was one. */
  discard(id: string): boolean {
    return this.#failed.delete(id);
  }

  /** What has no seq yet in a conversation, in order, the refused ones among them. */
  of(conversation: string): Outgoing[] {
    const waiting = [...this.#byId.values()].map((each) => each.message);
    return [...waiting, ...this.#failed.values()]
      .filter((message) => message.conversation === conversation)
      .sort((one, other) => one.order - other.order);
  }

  /** Those without an answer, in order. */
  waiting(): Waiting[] {
    return [...this.#byId.values()];
  }

  /** The one that is to go out, or has gone out, in a conversation. */
  first(conversation: string): Waiting | undefined {
    return this.firsts().find((each) => each.message.conversation === conversation);
  }

  /** Those of all conversations. */
  firsts(): Waiting[] {
    const firsts = new Map<string, Waiting>();
    for (const each of this.#byId.values()) {
      if (!each.answered && !firsts.has(each.message.conversation)) firsts.set(each.message.conversation, each);
    }
    return [...firsts.values()];
  }

  /** The connection is gone: what had gone out on it is to be sent again. */
  reset(): void {
    for (const each of this.#byId.values()) {
      each.sentAt = 0;
      each.answered = false;
    }
  }

  /** These are to be sent now, and nothing else. Those that were refused for good stay. */
  replace(messages: readonly Outgoing[]): void {
    this.#byId.clear();
    for (const message of messages) this.add(message);
  }

  /** When the message went out that has waited longest for its answer; infinity where none has. */
  oldest(): number {
    const times = this.firsts().map((each) => (each.sentAt === 0 ? Number.POSITIVE_INFINITY : each.sentAt));
    return Math.min(Number.POSITIVE_INFINITY, ...times);
  }
}
