/** The frames of the live protocol `signet.v1.json`: one JSON object a WebSocket text message, told apart by `t`
 *  (docs/protocol.md). What the server sends is checked field by field; times are microseconds since 1970, UTC. */

import { Malformed, count, flag, list, maybe, object, oneOf, optional, parse, plainObject, text, uuid } from "./shape";
import type { Of, Shape } from "./shape";

export const SUBPROTOCOL = "signet.v1.json";

/** Servers may be set to more than the protocol's limits; what is beyond these is no frame of theirs. */
const BODY_MAX = 1_048_576;
const SEQS_MAX = 100_000;

const account = uuid;
const conversation = uuid;
const seqs = optional(list(count, SEQS_MAX), []);

export const role = oneOf("owner", "admin", "member");
export const kind = oneOf("direct", "group");
export const protection = oneOf("end_to_end", "none");
export type Role = Of<typeof role>;
export type Kind = Of<typeof kind>;
export type Protection = Of<typeof protection>;

const ticks = object({
  delivered: optional(count, 0),
  read: optional(count, 0),
  undelivered: seqs,
  more: optional(flag, false),
});

export const overview = object({
  c: conversation,
  kind,
  protection,
  title: maybe(text()),
  peer: maybe(account),
  role: maybe(role),
  head: count,
  at: count,
  unread: optional(count, 0),
  read: optional(count, 0),
  delivered: optional(count, 0),
  ticks: optional(ticks, { delivered: 0, read: 0, undelivered: [], more: false }),
  kept: maybe(count),
});
export type Overview = Of<typeof overview>;

export const message = object({
  t: oneOf("message"),
  c: conversation,
  seq: count,
  at: count,
  occurred: maybe(count),
  header: text(65_536),
  body: maybe(text(BODY_MAX)),
  unreadable: maybe(text()),
  signature: maybe(text()),
  retracted: maybe(count),
});
export type Message = Of<typeof message>;

export const change = object({
  t: oneOf("change"),
  c: conversation,
  seq: count,
  at: count,
  what: oneOf("started", "added", "removed", "left", "role", "title", "retracted"),
  by: account,
  id: text(),
  accounts: optional(list(account), []),
  roles: optional(list(role), []),
  kind: maybe(kind),
  protection: maybe(protection),
  title: maybe(text()),
  target: maybe(count),
});
export type Change = Of<typeof change>;

export type Item = Message | Change;

/** In pages items name their kind as frames do. */
const item: Shape<Item> = (value, at) => {
  const found = plainObject(value, at);
  return found["t"] === "message" ? message(value, at) : change(value, at);
};

const challenge = object({
  t: oneOf("challenge"),
  nonce: text(256),
  server: text(256),
  frame_bytes_max: count,
  body_bytes_max: count,
  epoch: optional(text(256), ""),
});
const welcome = object({ t: oneOf("welcome"), conversations: list(overview, 1_000_000) });
const page = object({
  t: oneOf("page"),
  c: conversation,
  items: list(item),
  head: count,
  upto: count,
  id: optional(text(256), ""),
  retracted: optional(list(list(count, 2), SEQS_MAX), []),
});
const live = object({ t: oneOf("live") });
const accepted = object({ t: oneOf("accepted"), id: text(), c: conversation, seq: count, at: count });
const refused = object({
  t: oneOf("refused"),
  id: optional(text(), ""),
  code: text(256),
  text: text(),
  retry: flag,
  c: optional(text(256), ""),
  retry_after_ms: optional(count, 0),
});
const receipt = object({
  t: oneOf("receipt"),
  c: conversation,
  delivered: count,
  read: count,
  undelivered: seqs,
  repaired: seqs,
  more: optional(flag, false),
});
const mark = object({ t: oneOf("mark"), c: conversation, read: count });
const mail = object({ t: oneOf("mail"), n: count, type: text(256), sender: text(512), content: text(BODY_MAX) });
const keys = object({
  t: oneOf("keys"),
  left: count,
  fallback_used: optional(flag, false),
  published: optional(flag, true),
});
const devices = object({ t: oneOf("devices"), accounts: list(account, 100_000) });
const resync = object({ t: oneOf("resync") });
const pong = object({ t: oneOf("pong"), id: optional(text(256), "") });

const SHAPES = {
  challenge, welcome, page, live, accepted, refused, message, change, receipt, mark, mail, keys, devices, resync, pong,
};

export type Challenge = Of<typeof challenge>;
export type Welcome = Of<typeof welcome>;
export type Page = Of<typeof page>;
export type Accepted = Of<typeof accepted>;
export type RefusedFrame = Of<typeof refused>;
export type Receipt = Of<typeof receipt>;
export type Mark = Of<typeof mark>;
export type Mail = Of<typeof mail>;
export type KeyCounts = Of<typeof keys>;
export type DeviceLists = Of<typeof devices>;

export type ServerFrame = Of<(typeof SHAPES)[keyof typeof SHAPES]>;

/** Undefined: a frame of which this client knows nothing, which a newer server may send. Throws Malformed: what it does
 *  know must be right. */
export function decodeFrame(frame: string): ServerFrame | undefined {
  const found = parse(plainObject, frame, "frame");
  const tag = found["t"];
  if (typeof tag !== "string") throw new Malformed("frame: it has no `t`");
  if (!Object.hasOwn(SHAPES, tag)) return undefined;
  return SHAPES[tag as keyof typeof SHAPES](found, tag);
}

export interface Hello {
  readonly t: "hello";
  readonly account: string;
  readonly device: string;
  readonly signature: string;
  readonly cursors: Readonly<Record<string, number>>;
  readonly partial?: boolean;
  readonly epoch: string;
}

export interface Send {
  readonly t: "send";
  readonly header: string;
  readonly body: string;
  readonly signature: string;
}

export interface Ack {
  readonly t: "ack";
  readonly c: string;
  readonly upto: number;
  readonly read: number;
  readonly undecryptable: readonly number[];
  readonly repaired: readonly number[];
  readonly signature?: string;
}

export interface Read {
  readonly t: "read";
  readonly c: string;
  readonly upto: number;
}

export interface Fetch {
  readonly t: "fetch";
  readonly id: string;
  readonly c: string;
  readonly after: number;
  readonly limit: number;
}

export interface Took {
  readonly t: "took";
  readonly upto: number;
}

export interface Ping {
  readonly t: "ping";
  readonly id: string;
}

export type ClientFrame = Hello | Send | Ack | Read | Fetch | Took | Ping;
