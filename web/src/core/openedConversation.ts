/** A conversation on the screen: a run of what the store holds, up to its end, and what waits behind it. */

import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import type { Item, Opened, Person } from "../model";
import type { Conversation, Held, Outgoing } from "./records";
import type { Store } from "./store";
import { itemOf, waitingOf } from "./views";
import type { Around } from "./views";

/** How many events are read at once. */
const RUN = 100;

export interface Behind {
  readonly around: Around;
  readonly store: Store;
  conversation(id: string): Conversation;
  outbox(id: string): readonly Outgoing[];
  read(id: string, upto: number): Promise<void>;
  post(id: string, text: string): Promise<void>;
  discard(id: string, key: string): Promise<void>;
  closed(opened: OpenedConversation): void;
}

export class OpenedConversation implements Opened {
  readonly items: Signal<readonly Item[]> = signal([]);
  readonly members: Signal<readonly Person[]> = signal([]);
  readonly more: Signal<boolean> = signal(false);
  readonly readBefore: number;
  /** What is held of it from its first item on, by seq. Those that come while the first run is read stand in it, too. */
  readonly #held = new Map<number, Held>();
  #first = Number.MAX_SAFE_INTEGER;
  #isRead = false;
  #loading: Promise<void>;

  constructor(
    readonly id: string,
    private readonly behind: Behind,
  ) {
    this.readBefore = behind.conversation(id).read;
    this.#loading = this.#tryLoad();
  }

  loadMore(): Promise<void> {
    this.#loading = this.#loading.then(() => (this.more.value ? this.#tryLoad() : undefined));
    return this.#loading;
  }

  /** Where the store is closed, another tab has the device, or the device has stopped and says why. */
  #tryLoad(): Promise<void> {
    return this.#load().catch(() => undefined);
  }

  async #load(): Promise<void> {
    const run = await this.behind.store.itemsBefore(this.id, this.#first, RUN);
    for (const held of run) if (!this.#held.has(held.seq)) this.#held.set(held.seq, held);
    this.#first = run[0]?.seq ?? 0;
    this.#isRead = true;
    this.more.value = run.length === RUN && this.#first > 1;
    this.show();
  }

  /** Some items of it have come, or have changed. */
  take(items: readonly Held[]): void {
    for (const held of items) {
      if (held.c === this.id && (held.seq >= this.#first || !this.#isRead)) this.#held.set(held.seq, held);
    }
  }

  /** The server has lost what lies beyond this seq. */
  goBack(kept = Number.MAX_SAFE_INTEGER): void {
    for (const seq of this.#held.keys()) if (seq > kept) this.#held.delete(seq);
  }

  /** Marks, names, or what waits have changed. */
  show(): void {
    const conversation = this.behind.conversation(this.id);
    const { around } = this.behind;
    const members = conversation.members.size > 0 ? [...conversation.members.keys()] : guessedMembers(conversation, around);
    this.members.value = members.map((account) => around.person(account));
    // Until the first run is read there is no telling what stands before what has come.
    if (!this.#isRead) return;
    const held = [...this.#held.values()].sort((one, other) => one.seq - other.seq);
    const items = held.flatMap((each) => itemOf(each, conversation, around) ?? []);
    this.items.value = [...items, ...this.behind.outbox(this.id).map((message) => waitingOf(message, around))];
  }

  seen(seq: number): void {
    if (seq > this.behind.conversation(this.id).read) this.behind.read(this.id, seq).catch(() => undefined);
  }

  send(text: string): Promise<void> {
    return this.behind.post(this.id, text);
  }

  discard(key: string): Promise<void> {
    return this.behind.discard(this.id, key);
  }

  close(): void {
    this.behind.closed(this);
  }
}

function guessedMembers({ kind, peer }: Conversation, around: Around): string[] {
  return kind === "direct" && peer !== null ? [around.account, peer] : [];
}
