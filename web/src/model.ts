/** What the views show, and what they can ask for: the line between `core/` and `ui/`. Views know nothing else of the
 *  core, and the core nothing of the views. All values are immutable; signals are @preact/signals. */

import type { ReadonlySignal } from "@preact/signals";

export type Phase =
  /** The store is being opened. */
  | { readonly kind: "starting" }
  /** This browser has no device yet: somebody has to register. `invitation`: the server asks for one. */
  | { readonly kind: "new"; readonly server: string; readonly registration: "open" | "invited" | "closed" }
  /** A log-in link was opened. `asked`: is that who comes? `wrong`: it was used, or is of another run of the engine.
   *  `taken`: this browser has a device already. `name`: of the person whom it lets in, or who is here. */
  | { readonly kind: "entering"; readonly state: "asked" | "wrong" | "taken"; readonly name: string }
  /** Another tab has this device. `useHere` takes it over. */
  | { readonly kind: "elsewhere" }
  | { readonly kind: "ready" }
  /** The device can't go on: revoked, a wrong key, a fault of ours. Nothing is tried again. */
  | { readonly kind: "stopped"; readonly reason: "revoked" | "refused" | "replaced" | "broken" | "storage"; readonly text: string };

export type Connection = "connecting" | "catching-up" | "live" | "offline";

export interface Person {
  readonly account: string;
  readonly name: string;
}

export interface Me extends Person {
  readonly device: string;
  /** What others enter to write to this person: a link of this server, with the account's id behind `#`. */
  readonly address: string;
}

/** waiting: not on the server's disk yet. sent ✓, delivered ✓✓, read ✓✓ in colour. failed: refused for good. */
export type Tick = "waiting" | "sent" | "delivered" | "read" | "failed";

export interface Preview {
  readonly text: string;
  readonly at: number;
  readonly mine: boolean;
  readonly author: string;
  /** That of the message: one without a text of its own is shown as what it is. */
  readonly state?: MessageItem["state"];
  readonly tick?: Tick;
}

export interface Summary {
  readonly id: string;
  readonly kind: "direct" | "group";
  readonly title: string;
  readonly encrypted: boolean;
  readonly last?: Preview;
  readonly unread: number;
  /** Milliseconds since 1970 of the last event: the order of the list. */
  readonly at: number;
  /** False: this person has left, or was removed. */
  readonly member: boolean;
}

export type Item = MessageItem | ChangeItem;

export interface MessageItem {
  readonly kind: "message";
  /** The message's id, also before it has a seq. */
  readonly key: string;
  /** 0 while it waits. */
  readonly seq: number;
  readonly author: Person;
  readonly mine: boolean;
  readonly at: number;
  readonly state: "text" | "undecryptable" | "retracted" | "forged" | "unreadable" | "unknown";
  readonly text: string;
  readonly tick?: Tick;
  /** Why it was refused, for people. */
  readonly refusal?: string;
}

export interface ChangeItem {
  readonly kind: "change";
  readonly key: string;
  readonly seq: number;
  readonly at: number;
  readonly what: "started" | "added" | "removed" | "left" | "role" | "title";
  readonly by: Person;
  readonly people: readonly Person[];
  readonly title?: string;
}

/** A conversation on the screen. Items are in the order of seq, those that wait last. */
export interface Opened {
  readonly id: string;
  readonly items: ReadonlySignal<readonly Item[]>;
  readonly members: ReadonlySignal<readonly Person[]>;
  /** Whether there is more before the first item. */
  readonly more: ReadonlySignal<boolean>;
  /** The seq up to which the person had read when it was opened: the line "new". */
  readonly readBefore: number;
  loadMore(): Promise<void>;
  /** The person has seen everything up to this seq. */
  seen(seq: number): void;
  send(text: string): Promise<void>;
  /** Of a failed message. */
  discard(key: string): Promise<void>;
  close(): void;
}

/** What a person asked for was refused: `text` is for people. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    text: string,
  ) {
    super(text);
  }
}

export interface Model {
  readonly phase: ReadonlySignal<Phase>;
  readonly connection: ReadonlySignal<Connection>;
  readonly me: ReadonlySignal<Me | undefined>;
  readonly conversations: ReadonlySignal<readonly Summary[]>;
  /** The first list is there. */
  readonly loaded: ReadonlySignal<boolean>;
  register(name: string, invitation: string): Promise<void>;
  /** Becomes the person whom the log-in link lets in. */
  enter(): Promise<void>;
  /** Goes on without the log-in link. */
  dismissLink(): void;
  useHere(): void;
  open(conversation: string): Opened;
  /** `address`: an account's id, or a link that ends with one. Gives the conversation's id. Throws Refused. */
  startDirect(address: string): Promise<string>;
  startGroup(title: string, addresses: readonly string[]): Promise<string>;
}
