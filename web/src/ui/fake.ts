/** A model without a server, for looking at the views and for testing them: it shows what a scene says, and answers as the
 *  real one does. Not part of the build. */

import { computed, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import type { Connection, Item, Me, MessageItem, Model, Opened, Person, Phase, Summary, Tick } from "../model";
import { Refused } from "../model";

export interface FakeConversation {
  readonly summary: Summary;
  /** The whole history: the views get its end first. */
  readonly items: readonly Item[];
  readonly members: readonly Person[];
  readonly readBefore: number;
}

export interface Scene {
  readonly phase?: Phase;
  readonly connection?: Connection;
  readonly me?: Me;
  readonly loaded?: boolean;
  readonly conversations?: readonly FakeConversation[];
  /** What every request is answered with. */
  readonly refusal?: string;
  /** Pages never come, as on a line that hangs. */
  readonly hangs?: boolean;
}

export const ME: Me = {
  account: "a030c228-bdd4-5d6c-a1c6-7481e579fe8f",
  name: "Anna Lindqvist",
  device: "browser",
  address: "https://signet.example/#a030c228-bdd4-5d6c-a1c6-7481e579fe8f",
};

const PAGE = 100;
const STEP_MS = 400;
const TICKS: readonly Tick[] = ["sent", "delivered", "read"];

interface Live {
  readonly items: Signal<readonly Item[]>;
  readonly shownFrom: Signal<number>;
  readonly fake: FakeConversation;
}

export class FakeModel implements Model {
  readonly phase: Signal<Phase>;
  readonly connection: Signal<Connection>;
  readonly me: Signal<Me | undefined>;
  readonly conversations: Signal<readonly Summary[]>;
  readonly loaded: Signal<boolean>;
  readonly #live = new Map<string, Live>();

  constructor(private readonly scene: Scene) {
    this.phase = signal(scene.phase ?? { kind: "ready" });
    this.connection = signal(scene.connection ?? "live");
    this.me = signal(scene.me ?? ME);
    this.loaded = signal(scene.loaded ?? true);
    const all = scene.conversations ?? [];
    this.conversations = signal(all.map((fake) => fake.summary));
    for (const fake of all) this.#add(fake);
  }

  async register(name: string): Promise<void> {
    await this.#answer();
    this.me.value = { ...ME, name };
    this.phase.value = { kind: "ready" };
  }

  async enter(): Promise<void> {
    await this.#answer();
    this.phase.value = { kind: "ready" };
  }

  dismissLink(): void {
    this.phase.value = { kind: "ready" };
  }

  useHere(): void {
    this.phase.value = { kind: "ready" };
  }

  open(conversation: string): Opened {
    const live = this.#live.get(conversation);
    if (live === undefined) throw new Error(`no conversation ${conversation}`);
    return {
      id: conversation,
      items: computed(() => live.items.value.slice(live.shownFrom.value)),
      members: signal(live.fake.members),
      more: computed(() => live.shownFrom.value > 0 || this.scene.hangs === true),
      readBefore: live.fake.readBefore,
      loadMore: async () => {
        await this.#answer();
        live.shownFrom.value = Math.max(0, live.shownFrom.peek() - PAGE);
      },
      seen: (seq) => this.#seen(live, seq),
      send: (text) => this.#send(live, text),
      discard: async (key) => {
        live.items.value = live.items.peek().filter((item) => item.key !== key);
      },
      close: () => undefined,
    };
  }

  async startDirect(address: string): Promise<string> {
    await this.#answer();
    return this.#start("direct", address.slice(-36));
  }

  async startGroup(title: string): Promise<string> {
    await this.#answer();
    return this.#start("group", title);
  }

  /** Something comes from somebody else. */
  receive(conversation: string, author: Person, text: string): void {
    const live = this.#live.get(conversation);
    if (live === undefined) return;
    const seq = live.items.peek().length + 1;
    const at = Date.now();
    const item: MessageItem = { kind: "message", key: crypto.randomUUID(), seq, author, mine: false, at, state: "text", text };
    live.items.value = [...live.items.peek(), item];
    this.#summarize(conversation, (summary) => ({
      ...summary,
      at,
      unread: summary.unread + 1,
      last: { text, at, mine: false, author: author.name },
    }));
  }

  #add(fake: FakeConversation): void {
    const shownFrom = signal(this.scene.hangs === true ? fake.items.length : Math.max(0, fake.items.length - PAGE));
    this.#live.set(fake.summary.id, { items: signal(fake.items), shownFrom, fake });
  }

  async #answer(): Promise<void> {
    if (this.scene.hangs === true) await new Promise(() => undefined);
    await pause(STEP_MS);
    if (this.scene.refusal !== undefined) throw new Refused("refused", this.scene.refusal);
  }

  #start(kind: Summary["kind"], title: string): string {
    const summary: Summary = { id: crypto.randomUUID(), kind, title, encrypted: true, unread: 0, at: Date.now(), member: true };
    this.#add({ summary, items: [], members: [this.me.peek() ?? ME], readBefore: 0 });
    this.conversations.value = [summary, ...this.conversations.peek()];
    return summary.id;
  }

  #seen(live: Live, seq: number): void {
    const unread = live.items.peek().filter((item) => item.kind === "message" && !item.mine && item.seq > seq).length;
    this.#summarize(live.fake.summary.id, (summary) => ({ ...summary, unread: Math.min(summary.unread, unread) }));
  }

  async #send(live: Live, text: string): Promise<void> {
    const me = this.me.peek() ?? ME;
    const key = crypto.randomUUID();
    const item: MessageItem = { kind: "message", key, seq: 0, author: me, mine: true, at: Date.now(), state: "text", text, tick: "waiting" };
    live.items.value = [...live.items.peek(), item];
    if (this.connection.peek() !== "live") return;
    const seq = live.items.peek().length;
    for (const tick of TICKS) {
      await pause(STEP_MS);
      live.items.value = live.items.peek().map((other) => (other.key === key ? { ...item, seq, tick } : other));
      this.#summarize(live.fake.summary.id, (summary) => ({
        ...summary,
        at: item.at,
        last: { text, at: item.at, mine: true, author: me.name, tick },
      }));
    }
  }

  #summarize(id: string, change: (summary: Summary) => Summary): void {
    this.conversations.value = this.conversations.peek().map((summary) => (summary.id === id ? change(summary) : summary));
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
