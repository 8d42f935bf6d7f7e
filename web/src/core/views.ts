/** What is shown of the records: conversations as summaries, events as items. Pure. */

import type { ChangeItem, Item, MessageItem, Person, Preview, Summary, Tick } from "../model";
import { decodeHeader } from "./payloads";
import { isForged } from "./records";
import type { Conversation, Held, Outgoing } from "./records";
import type { Change } from "./wire";

export interface Around {
  readonly account: string;
  person(account: string): Person;
}

/** What this client shows as text; the other kinds come with what they carry. */
const TEXTS = new Set(["text", "action"]);

export function summaryOf(conversation: Conversation, outbox: readonly Outgoing[], around: Around): Summary {
  const { id, kind, protection, unread, member } = conversation;
  const last = previewOf(conversation, outbox, around);
  const title = kind === "direct" ? peerName(conversation, around) : (conversation.title ?? "");
  const at = Math.max(Math.floor(conversation.at / 1_000), last?.at ?? 0);
  return { id, kind, title, encrypted: protection === "end_to_end", ...(last && { last }), unread, at, member };
}

function peerName({ peer }: Conversation, around: Around): string {
  return peer === null ? "" : around.person(peer).name;
}

function previewOf(conversation: Conversation, outbox: readonly Outgoing[], around: Around): Preview | undefined {
  const waiting = outbox.at(-1);
  const item = waiting === undefined ? conversation.last : undefined;
  const shown = waiting === undefined ? item && messageOf(item, conversation, around) : waitingOf(waiting, around);
  if (shown === undefined) return undefined;
  const { text, at, mine, author, state } = shown;
  return { text, at, mine, author: author.name, state, ...(shown.tick && { tick: shown.tick }) };
}

/** Undefined: there is nothing to be seen of it. */
export function itemOf(held: Held, conversation: Conversation, around: Around): Item | undefined {
  return held.item.t === "change" ? changeOf(held.item, around) : messageOf(held, conversation, around);
}

function messageOf(held: Held, conversation: Conversation, around: Around): MessageItem | undefined {
  const { item, seq } = held;
  if (item.t !== "message") return undefined;
  const header = decodeHeader(item.header);
  const mine = header?.s === around.account;
  const { state, text } = said(held);
  return {
    kind: "message",
    key: header?.id ?? `${held.c}.${seq}`,
    seq,
    author: around.person(header?.s ?? ""),
    mine,
    at: Math.floor((item.occurred ?? item.at) / 1_000),
    state,
    text,
    ...(mine && { tick: tickOf(conversation, seq) }),
  };
}

function said({ item, clear, reason }: Held): Pick<MessageItem, "state" | "text"> {
  if (item.t !== "message" || item.retracted !== null) return { state: "retracted", text: "" };
  if (item.unreadable !== null || item.body === null) return { state: "unreadable", text: "" };
  if (reason !== undefined) return { state: isForged(reason) ? "forged" : "undecryptable", text: "" };
  if (clear === undefined || !TEXTS.has(clear.kind)) return { state: "unknown", text: clear?.text ?? "" };
  return { state: "text", text: clear.text };
}

/** How far one's own message has come: to the server, to every member, seen by every member. */
function tickOf({ tickDelivered, tickRead, undelivered }: Conversation, seq: number): Tick {
  if (seq > tickDelivered || undelivered.has(seq)) return "sent";
  return seq <= tickRead ? "read" : "delivered";
}

export function waitingOf({ id, at, clear, refused }: Outgoing, around: Around): MessageItem {
  return {
    kind: "message",
    key: id,
    seq: 0,
    author: around.person(around.account),
    mine: true,
    at,
    state: "text",
    text: clear.text,
    tick: refused === undefined ? "waiting" : "failed",
    ...(refused && { refusal: refused.text }),
  };
}

function changeOf(change: Change, around: Around): ChangeItem | undefined {
  const { what, by, accounts, title } = change;
  // It shows at the message that it concerns.
  if (what === "retracted") return undefined;
  return {
    kind: "change",
    key: change.id,
    seq: change.seq,
    at: Math.floor(change.at / 1_000),
    what,
    by: around.person(by),
    people: accounts.map((account) => around.person(account)),
    ...(title !== null && { title }),
  };
}
