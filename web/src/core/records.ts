/** What a device keeps in its store. */

import type { Item, Kind, Protection, Role } from "./wire";

/** Whose store it is. */
export interface Profile {
  readonly server: string;
  readonly account: string;
  readonly device: string;
  /** The command id of the registration, from which the account's id was derived; empty for a further device, which
   *  another one has let in. */
  readonly registration: string;
  /** Whether the server has answered it. */
  readonly registered: boolean;
  readonly name: string;
}

/** A device of an account. */
export interface Address {
  readonly account: string;
  readonly device: string;
}

/** What a message says. */
export interface Clear {
  readonly kind: string;
  readonly text: string;
  readonly replyTo?: number;
  readonly attachment?: unknown;
}

/** Why this device can't decrypt a message, or does not believe it. `no_key`: asked for; `unknown_device`: nobody
 *  vouches for the device that sent it. All others: it is not what its sender has sent. */
export type Undecryptable =
  | "no_key"
  | "unknown_device"
  | "tampered"
  | "replayed"
  | "wrong_conversation"
  | "forged_header"
  | "not_encrypted"
  | "malformed";

export function isForged(reason: Undecryptable): boolean {
  return reason !== "no_key" && reason !== "unknown_device";
}

/** One event of a conversation. */
export interface Held {
  readonly c: string;
  readonly seq: number;
  /** Of a message that was retracted: without its body. */
  readonly item: Item;
  readonly clear?: Clear;
  readonly reason?: Undecryptable;
}

/** One conversation, with how far things are in it. Changed in place, by the device's one line of work only. */
export interface Conversation {
  readonly id: string;
  /** Whether the server or the log has said what it is; else `kind` and `protection` are guesses. */
  known: boolean;
  kind: Kind;
  protection: Protection;
  title: string | null;
  peer: string | null;
  /** Whether the account is a member, as far as is known. */
  member: boolean;
  members: Map<string, Role>;
  /** `members` are those after this seq; 0: they are not known. */
  membersAt: number;
  at: number;
  /** Everything that the account may see up to this seq is in the store. */
  cursor: number;
  read: number;
  tickDelivered: number;
  tickRead: number;
  /** Seqs, of anybody's messages, that some member could not decrypt. */
  undelivered: Set<number>;
  unread: number;
  last?: Held;
}

/** A message without a final answer: the very bytes that are sent until there is one. */
export interface Outgoing {
  readonly id: string;
  readonly conversation: string;
  /** Grows from one to the next: they go out in this order. */
  readonly order: number;
  readonly clear: Clear;
  readonly at: number;
  /** Empty until it goes out for the first time, since only then it is sure who is to read it. */
  readonly header: string;
  readonly body: string;
  readonly signature: string;
  /** The server refused it for good. */
  readonly refused?: { readonly code: string; readonly text: string };
}

/** A message that could not be decrypted, or could be only later. */
export interface Undecrypted {
  readonly c: string;
  readonly seq: number;
  readonly session: string;
  readonly sender: string;
  readonly reason: Undecryptable;
  readonly repaired: boolean;
  /** The mark of the statement in which the server was told; 0: it was not, -1: it is to be told again. */
  readonly told: number;
}

/** Which message a position of a session belongs to: of a session that is used twice for one position, one is forged. */
export interface Position {
  readonly session: string;
  readonly index: number;
  readonly c: string;
  readonly seq: number;
}

export interface DeviceKeys {
  readonly ed25519: string;
  readonly curve25519: string;
}

/** An account's devices, as far as they are believed. */
export interface DeviceList {
  readonly account: string;
  readonly version: number;
  /** Every device that was ever let in, also those that were revoked: its Ed25519 key. */
  readonly linked: ReadonlyMap<string, string>;
  /** Those with published keys, pinned for ever. */
  readonly pins: ReadonlyMap<string, DeviceKeys>;
  /** Those of the present list. */
  readonly active: readonly string[];
  /** The signed keys of the present list, as the server gave them. */
  readonly answer: Readonly<Record<string, unknown>>;
}

/** Mail to other devices that the server has not confirmed. */
export interface Parcel {
  readonly transaction: string;
  readonly type: string;
  readonly messages: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

export interface Named {
  readonly account: string;
  /** Null: it was erased. */
  readonly name: string | null;
  /** When it was asked for, in milliseconds since 1970. */
  readonly asked: number;
}

export function newConversation(id: string): Conversation {
  return {
    id,
    known: false,
    kind: "group",
    // As long as it is not known what it is, nothing may leave in clear.
    protection: "end_to_end",
    title: null,
    peer: null,
    member: true,
    members: new Map(),
    membersAt: 0,
    at: 0,
    cursor: 0,
    read: 0,
    tickDelivered: 0,
    tickRead: 0,
    undelivered: new Set(),
    unread: 0,
  };
}
