/** What comes in: items into order, conversations, ticks and read marks, as the device will hold them. Nothing is stored
 *  here: what a turn is to store and acknowledge goes to `gathered`. */

import type { ConversationShown } from "./api";
import type { Gathered } from "./gathered";
import { Intake } from "./intake";
import { decodeHeader } from "./payloads";
import type { Reading } from "./reading";
import { newConversation } from "./records";
import type { Address, Clear, Conversation, Held } from "./records";
import type { Store } from "./store";
import type { Change, Item, Message, Overview, Page, Receipt } from "./wire";

export interface Around {
  /** What this device has said in a message, if it is one of its own that has just gone out; it has its seq now. */
  settle(id: string, item: Message): Clear | undefined;
  /** Somebody came or went. */
  membersChanged(change: Change): Promise<void>;
  /** The account came into a conversation of which it is not known what it is. */
  learn(conversation: string): void;
  /** The server could not name all that is undelivered. */
  unsure(conversation: string): void;
}

export class Receiving {
  readonly conversations: Map<string, Conversation>;
  readonly intake: Intake;
  /** What the welcome said that there is. */
  readonly #heads = new Map<string, number>();
  /** Conversations of which the server has said that it names not all that is undelivered; and what it said after that. */
  readonly #unsure = new Map<string, Receipt[]>();

  constructor(
    private readonly me: Address,
    private readonly store: Store,
    private readonly gathered: Gathered,
    private readonly reading: Reading,
    private readonly around: Around,
    conversations: readonly Conversation[],
  ) {
    this.conversations = new Map(conversations.map((each) => [each.id, each]));
    this.intake = new Intake((conversation) => this.of(conversation));
  }

  /** A conversation's record; one that changes it calls `touch`. */
  of(id: string): Conversation {
    let conversation = this.conversations.get(id);
    if (conversation === undefined) this.conversations.set(id, (conversation = newConversation(id)));
    return conversation;
  }

  touch(id: string): Conversation {
    this.gathered.touched.add(id);
    return this.of(id);
  }

  // Items

  /** One that was pushed, or that an answer has made. */
  async take(item: Item): Promise<void> {
    await this.#hold(item.c, this.intake.push(item));
  }

  async takePage(page: Page): Promise<void> {
    await this.#hold(page.c, this.intake.page(page));
    this.touch(page.c);
    // What was retracted while the account was away.
    for (const [target, retraction] of page.retracted) {
      if (target !== undefined && retraction !== undefined) await this.#retract(page.c, target, retraction);
    }
  }

  async #hold(id: string, items: readonly Item[]): Promise<void> {
    const first = items[0];
    if (first === undefined) return;
    const conversation = this.touch(id);
    if (!conversation.known) this.#learn(conversation, first);
    for (const item of items) {
      conversation.at = Math.max(conversation.at, item.at);
      if (item.t === "message") await this.#holdMessage(conversation, item);
      else await this.#holdChange(conversation, item);
    }
  }

  async #holdMessage(conversation: Conversation, item: Message): Promise<void> {
    const header = decodeHeader(item.header);
    const isOwn = header !== undefined && header.s === this.me.account && header.d === this.me.device;
    const own = isOwn ? this.around.settle(header.id, item) : undefined;
    const held = await this.reading.take(item, conversation, own);
    this.gathered.put(held);
    conversation.last = held;
    if (header?.s === this.me.account) return;
    this.gathered.acks.add(item.c);
    if (item.seq > (this.#heads.get(item.c) ?? 0) && counts(held, this.me.account, conversation.read)) {
      conversation.unread += 1;
    }
  }

  async #holdChange(conversation: Conversation, change: Change): Promise<void> {
    this.gathered.put({ c: change.c, seq: change.seq, item: change });
    if (change.what === "retracted" && change.target !== null) {
      await this.#retract(change.c, change.target, change.seq);
    }
    if (change.seq > conversation.membersAt) this.#followMembers(conversation, change);
    if (["started", "added", "removed", "left"].includes(change.what)) await this.around.membersChanged(change);
    // Up to its head, the welcome has said it; what is read after it may be older.
    if (change.seq <= (this.#heads.get(change.c) ?? 0)) return;
    if (change.what === "title") conversation.title = change.title;
    // What it was called before, the account does not see.
    if (change.what === "added" && change.accounts.includes(this.me.account)) this.around.learn(change.c);
  }

  async #retract(c: string, target: number, retraction: number): Promise<void> {
    const held = await this.gathered.find(this.store, c, target);
    if (held === undefined || held.item.t !== "message") return;
    const bare: Held = { c, seq: target, item: { ...held.item, body: null, retracted: retraction } };
    this.gathered.put(bare);
    this.gathered.recount.add(c);
  }

  /** An item has changed: it may be the one that the list shows. */
  renewLast(held: Held): void {
    const conversation = this.of(held.c);
    if (conversation.last?.seq === held.seq) conversation.last = held;
  }

  #followMembers(conversation: Conversation, change: Change): void {
    if (change.what === "started") conversation.members = new Map();
    else if (conversation.membersAt === 0) return;
    conversation.membersAt = change.seq;
    for (const [index, account] of change.accounts.entries()) {
      const role = change.roles[index] ?? "member";
      if (change.what === "started" || change.what === "added" || change.what === "role") {
        conversation.members.set(account, role);
      } else if (change.what === "removed" || change.what === "left") {
        conversation.members.delete(account);
      }
    }
    conversation.member = conversation.members.has(this.me.account);
  }

  // Conversations

  #learn(conversation: Conversation, first: Item): void {
    if (first.t !== "change" || first.what !== "started") {
      this.around.learn(conversation.id);
      return;
    }
    const others = first.accounts.filter((account) => account !== this.me.account);
    conversation.known = true;
    conversation.kind = first.kind ?? "group";
    conversation.protection = first.protection ?? "none";
    conversation.title = first.title;
    conversation.peer = first.kind === "direct" ? (others[0] ?? null) : null;
  }

  async #know(overview: Overview): Promise<void> {
    const conversation = this.touch(overview.c);
    const isNew = !conversation.known;
    // Once it is known to be encrypted it is so for ever, whatever a server says.
    const isEncrypted = conversation.known && conversation.protection === "end_to_end";
    conversation.protection = isEncrypted ? "end_to_end" : overview.protection;
    conversation.known = true;
    conversation.kind = overview.kind;
    conversation.title = overview.title;
    conversation.peer = overview.peer;
    conversation.member = overview.role !== null;
    conversation.at = Math.max(conversation.at, overview.at);
    if (isNew && conversation.protection === "none") await this.reading.retryClear(overview.c);
  }

  /** What the server said when it was asked about one conversation. */
  async know({ overview, members }: ConversationShown): Promise<void> {
    await this.#know(overview);
    const conversation = this.of(overview.c);
    if (members === null || overview.head < conversation.membersAt) return;
    conversation.members = new Map(members);
    conversation.membersAt = Math.max(overview.head, 1);
  }

  // Ticks and read marks

  followTicks(receipt: Receipt): void {
    const conversation = this.touch(receipt.c);
    const changes = this.#unsure.get(receipt.c);
    if (receipt.more) {
      this.#unsure.set(receipt.c, []);
      this.around.unsure(receipt.c);
    } else {
      changes?.push(receipt);
    }
    this.#moveTick(conversation, receipt);
    change(conversation.undelivered, receipt);
  }

  /** What is heard of from now on is in no answer to a question that is asked now. */
  changesOf(conversation: string): readonly Receipt[] | undefined {
    return this.#unsure.get(conversation);
  }

  /** What the server named, asked after `changes` began to gather. Does nothing where it has become doubtful again. */
  knowUndelivered(id: string, seqs: readonly number[], changes: readonly Receipt[]): void {
    if (this.#unsure.get(id) !== changes) return;
    this.#unsure.delete(id);
    const conversation = this.touch(id);
    conversation.undelivered = new Set(seqs);
    // Some of them are in it already. The last one of a seq is right, whatever stood there before.
    for (const each of changes) change(conversation.undelivered, each);
  }

  forgetUnsure(id: string): void {
    this.#unsure.delete(id);
  }

  /** Ticks only move forward, whatever order they are heard of in. */
  #moveTick(conversation: Conversation, marks: { readonly delivered: number; readonly read: number }): void {
    conversation.tickDelivered = Math.max(conversation.tickDelivered, marks.delivered);
    conversation.tickRead = Math.max(conversation.tickRead, marks.read);
  }

  moveRead(id: string, read: number): void {
    const conversation = this.touch(id);
    if (read <= conversation.read) return;
    conversation.read = read;
    this.gathered.recount.add(id);
  }

  /** Counts what is unread, where marks have moved; what was gathered is in the store. */
  async recount(id: string): Promise<void> {
    const conversation = this.touch(id);
    const items = await this.store.items(id, conversation.read);
    conversation.unread = items.filter((held) => counts(held, this.me.account, conversation.read)).length;
  }

  // The welcome

  /** Compares what the server says of a conversation with what is here, and says again what it has not heard. */
  async lookOver(overview: Overview): Promise<void> {
    const { c, ticks } = overview;
    await this.#know(overview);
    const conversation = this.of(c);
    this.#heads.set(c, overview.head);
    this.#moveTick(conversation, ticks);
    if (ticks.more) {
      this.#unsure.set(c, []);
      this.around.unsure(c);
      change(conversation.undelivered, { undelivered: ticks.undelivered, repaired: [] });
    } else {
      this.#unsure.delete(c);
      conversation.undelivered = new Set(ticks.undelivered);
    }
    if (overview.read >= conversation.read) {
      conversation.read = overview.read;
      conversation.unread = overview.unread;
    } else {
      this.gathered.reads.add(c);
      this.gathered.recount.add(c);
    }
    if (overview.delivered < conversation.cursor) this.gathered.acks.add(c);
    await this.reading.lookOver(c, overview.delivered);
  }

  /** The pages are over: what they did not bring, though the welcome named it, is a hole. */
  goLive(): void {
    for (const [conversation, head] of this.#heads) this.intake.want(conversation, head);
  }
}

/** Whether it is a message that its reader has not seen. */
function counts({ item, seq }: Held, account: string, read: number): boolean {
  if (item.t !== "message" || seq <= read || item.retracted !== null) return false;
  const header = decodeHeader(item.header);
  return header !== undefined && header.s !== account && header.n;
}

function change(undelivered: Set<number>, by: Pick<Receipt, "undelivered" | "repaired">): void {
  for (const seq of by.undelivered) undelivered.add(seq);
  for (const seq of by.repaired) undelivered.delete(seq);
}
