/** Messages on their way: from the outbox to their answer, each conversation's in the order in which they were made. Nothing
 *  is stored here: what is to be stored and sent goes to `gathered`. */

import { backoffMs } from "./backoff";
import type { Gathered } from "./gathered";
import { Outbox } from "./outbox";
import type { Waiting } from "./outbox";
import { bytesIn } from "./payloads";
import type { Clear, Outgoing } from "./records";
import type { Accepted, Message, RefusedFrame } from "./wire";

/** What an encrypted body takes beside four thirds of what it says, generously. */
const ENCRYPTED_BYTES = 640;

export interface Around {
  /** A message waits to be encrypted. */
  errand(): void;
  /** Others are in the conversation than this device knows. */
  refusedAsStale(conversation: string): void;
  /** Calls `goOn` for this message after so long. */
  later(id: string, ms: number): void;
}

/** The bytes of a message. */
export type Bytes = Pick<Outgoing, "header" | "body" | "signature">;

export class Sending {
  readonly outbox: Outbox;
  /** What the server takes; 0: it has not been heard yet. */
  bodyBytesMax = 0;
  #welcomed = false;

  constructor(
    messages: readonly Outgoing[],
    private readonly gathered: Gathered,
    private readonly around: Around,
  ) {
    this.outbox = new Outbox(messages);
  }

  // The connection

  /** The server takes messages from now on. */
  resume(): void {
    this.#welcomed = true;
    for (const { message } of this.outbox.firsts()) this.sendNext(message.conversation);
  }

  /** The connection is gone. */
  reset(): void {
    this.#welcomed = false;
    this.outbox.reset();
  }

  // Out

  post(message: Outgoing): void {
    this.outbox.add(message);
    this.#store(message);
    this.sendNext(message.conversation);
  }

  /** Sends the message that is next there, if it may go out. */
  sendNext(conversation: string): void {
    for (let first = this.outbox.first(conversation); first !== undefined; first = this.outbox.first(conversation)) {
      if (!this.#isTooLarge(first.message)) return this.#send(first);
      const text = `This server takes messages of at most ${this.bodyBytesMax} bytes.`;
      this.#giveUp(first.message, { code: "too_large", text });
    }
  }

  #send(waiting: Waiting): void {
    if (!this.#welcomed || waiting.sentAt !== 0) return;
    const { header, body, signature } = waiting.message;
    if (header === "") return this.around.errand();
    waiting.sentAt = Date.now();
    this.gathered.frames.push({ t: "send", header, body, signature });
  }

  #isTooLarge({ body, clear }: Outgoing): boolean {
    const size = body === "" ? (bytesIn(JSON.stringify(clear)) * 4) / 3 + ENCRYPTED_BYTES : bytesIn(body);
    return this.bodyBytesMax > 0 && size > this.bodyBytesMax;
  }

  /** The conversations in which a message could go out if it had its bytes. */
  needing(): string[] {
    if (!this.#welcomed) return [];
    const needing = this.outbox.firsts().filter(({ message }) => message.header === "");
    return needing.map(({ message }) => message.conversation);
  }

  /** Gives the message that is next there its bytes, and sends it. */
  async encrypt(conversation: string, encrypt: (message: Outgoing) => Promise<Bytes>): Promise<void> {
    const waiting = this.outbox.first(conversation);
    if (waiting === undefined || waiting.message.header !== "") return;
    waiting.message = { ...waiting.message, ...(await encrypt(waiting.message)) };
    this.#store(waiting.message);
    this.sendNext(conversation);
  }

  /** None of the messages that wait there for their bytes can be sent. */
  giveUp(conversation: string, refused: { code: string; text: string }): void {
    for (let first = this.outbox.first(conversation); first?.message.header === ""; ) {
      this.#giveUp(first.message, refused);
      first = this.outbox.first(conversation);
    }
  }

  /** The wait after a refusal is over. */
  goOn(id: string): void {
    const waiting = this.outbox.get(id);
    if (waiting === undefined || waiting.answered) return;
    waiting.sentAt = 0;
    this.#send(waiting);
  }

  // Answers

  /** The message as an item; undefined where it was answered before. */
  accepted(accepted: Accepted): Message | undefined {
    const waiting = this.outbox.get(accepted.id);
    if (waiting === undefined || waiting.answered || waiting.message.conversation !== accepted.c) return undefined;
    waiting.answered = true;
    const { message } = waiting;
    this.sendNext(message.conversation);
    this.gathered.touched.add(message.conversation);
    return {
      t: "message",
      c: accepted.c,
      seq: accepted.seq,
      at: accepted.at,
      occurred: null,
      header: message.header,
      body: message.body,
      unreadable: null,
      signature: message.signature,
      retracted: null,
    };
  }

  /** A message of this device is among the items: it leaves the outbox. What it says, if these are its very bytes. */
  settle(id: string, item: Message): Clear | undefined {
    const message = this.outbox.get(id)?.message;
    // Its header names the conversation: anywhere else it is none that this device has sent.
    if (message === undefined || message.conversation !== item.c) return undefined;
    this.outbox.remove(id);
    this.gathered.batch.delete("outbox", id);
    this.sendNext(message.conversation);
    return item.header === message.header && item.body === message.body ? message.clear : undefined;
  }

  /** Whether the refusal is of a message. */
  refused(refused: RefusedFrame): boolean {
    const waiting = this.outbox.get(refused.id);
    if (waiting === undefined) return false;
    const { message } = waiting;
    if (refused.code === "stale_members") {
      // Nothing was stored under its id, so it keeps it; others are to read it than those for whom it was encrypted.
      waiting.message = { ...message, header: "", body: "", signature: "" };
      waiting.sentAt = 0;
      this.#store(waiting.message);
      this.around.refusedAsStale(message.conversation);
    } else if (refused.retry) {
      waiting.refusals += 1;
      // It counts as sent when it may be: the connection is not at fault for a long wait.
      waiting.sentAt = Date.now() + refused.retry_after_ms;
      this.around.later(message.id, refused.retry_after_ms + backoffMs(waiting.refusals - 1));
    } else {
      this.#giveUp(message, refused);
      this.sendNext(message.conversation);
    }
    return true;
  }

  /** Forgets a message that was refused for good. */
  discard(id: string): void {
    if (this.outbox.discard(id)) this.gathered.batch.delete("outbox", id);
  }

  #giveUp(message: Outgoing, { code, text }: { readonly code: string; readonly text: string }): void {
    const refused = { ...message, refused: { code, text } };
    this.outbox.fail(refused);
    this.#store(refused);
  }

  #store(message: Outgoing): void {
    this.gathered.batch.put("outbox", message.id, message);
    this.gathered.touched.add(message.conversation);
  }
}
