/** What messages say: those that are encrypted are decrypted as they come, and what can't be is named, asked for, and tried
 *  again.
 *
 *  Delivered means that the device could read it. A key that is not there is asked for at once, and its message keeps the
 *  acknowledgements of the conversation before it for a moment; if the key has not come by then, it is named. */

import { clearOfBody, encryptedOf, positionOf } from "./content";
import type { Encrypted } from "./content";
import type { Gathered } from "./gathered";
import type { Lists } from "./lists";
import { NotDecrypted } from "./machine";
import type { Machine, SessionRef } from "./machine";
import { decodeHeader, digestOf, verify } from "./payloads";
import { isForged } from "./records";
import type { Clear, Conversation, Held, Undecryptable, Undecrypted } from "./records";
import type { Store } from "./store";
import type { Ack, Message } from "./wire";

/** How long a key may be late before its message counts as undecryptable. */
const KEY_GRACE_MS = 2_000;
/** How many seqs one acknowledgement names. */
const NAMED_MAX = 256;
const UNTOLD = 0;
const TELL_AGAIN = -1;

export interface KeyWanted extends SessionRef {
  readonly sender: string;
}

export interface Asking {
  wantKey(wanted: KeyWanted): void;
  /** The server has named no such device: the account's list is to be asked for. */
  doubtDevice(account: string, device: string): void;
}

type Outcome = { readonly clear: Clear } | { readonly reason: Undecryptable; readonly session: string };

export class Reading {
  /** Conversation → seq → what could not be read, or was repaired of late. */
  readonly #undecrypted = new Map<string, Map<number, Undecrypted>>();
  /** Messages whose keys may yet come, and until when, in milliseconds since 1970. */
  readonly #late = new Map<string, { c: string; seq: number; until: number }>();
  /** How far the server has heard this device, as the last welcome said. */
  readonly #heard = new Map<string, number>();
  /** Positions of this turn, which are not in the store yet. */
  readonly #positions = new Map<string, string>();

  constructor(
    private readonly machine: Machine,
    private readonly lists: Lists,
    private readonly store: Store,
    private readonly gathered: Gathered,
    private readonly asking: Asking,
    undecrypted: readonly Undecrypted[],
  ) {
    for (const row of undecrypted) this.#rows(row.c).set(row.seq, row);
  }

  /** The message that an item carries. `own`: what it says, where this device has just said it. */
  async take(item: Message, conversation: Conversation, own: Clear | undefined): Promise<Held> {
    const held = { c: item.c, seq: item.seq, item };
    if (item.body === null) return held;
    if (own !== undefined) {
      const encrypted = encryptedOf(item.body);
      if (encrypted !== undefined) await this.#isFirst(encrypted, item);
      return { ...held, clear: own };
    }
    const outcome = await this.#read(item, item.body, conversation);
    if ("clear" in outcome) return { ...held, clear: outcome.clear };
    this.#keep(item, outcome.reason, outcome.session);
    return { ...held, reason: outcome.reason };
  }

  async #read(item: Message, body: string, conversation: Conversation): Promise<Outcome> {
    const encrypted = encryptedOf(body);
    if (encrypted === undefined) {
      if (conversation.protection === "end_to_end") return { reason: "not_encrypted", session: "" };
      const clear = clearOfBody(body);
      return clear === undefined ? { reason: "malformed", session: "" } : { clear };
    }
    const found = await this.#decrypt(item, body, encrypted);
    return typeof found === "string" ? { reason: found, session: encrypted.session_id } : { clear: found };
  }

  async #decrypt(item: Message, body: string, encrypted: Encrypted): Promise<Clear | Undecryptable> {
    const header = decodeHeader(item.header);
    if (header === undefined || header.c !== item.c || header.h !== (await digestOf(body))) return "forged_header";
    const key = this.lists.keyOf(header.s, header.d);
    if (key === undefined) {
      this.asking.doubtDevice(header.s, header.d);
      return "unknown_device";
    }
    if (item.signature === null || !(await verify(key, item.header, item.signature))) return "forged_header";
    let clear: Clear | undefined;
    try {
      const on = { conversation: item.c, message: header.id, sender: header.s, at: item.at, body };
      const found = await this.machine.decrypt(on);
      // OlmMachine gives out what comes of another's session, too: only the header's device may have given it.
      const pin = this.lists.pinOf(header.s, header.d);
      if (found.ed25519 !== key || (pin !== undefined && pin.curve25519 !== found.curve25519)) return "forged_header";
      clear = found.clear;
    } catch (error) {
      if (error instanceof NotDecrypted) return error.reason;
      throw error;
    }
    // After all that shows whose it is: a forged copy that comes first does not take the message's place.
    if (!(await this.#isFirst(encrypted, item))) return "replayed";
    return clear ?? "malformed";
  }

  /** Whether no other message has this position of the session: OlmMachine doesn't look. */
  async #isFirst(encrypted: Encrypted, { c, seq }: Message): Promise<boolean> {
    const index = positionOf(encrypted.ciphertext);
    if (index === undefined) return false;
    const session = encrypted.session_id;
    const [place, message] = [`${session} ${index}`, `${c} ${seq}`];
    const stored = await this.store.get("positions", [session, index]);
    const first = this.#positions.get(place) ?? (stored && `${stored.c} ${stored.seq}`);
    if (first !== undefined) return first === message;
    this.#positions.set(place, message);
    this.gathered.batch.put("positions", [session, index], { session, index, c, seq });
    return true;
  }

  /** What was gathered is in the store. */
  stored(): void {
    this.#positions.clear();
  }

  #keep(item: Message, reason: Undecryptable, session: string): void {
    const sender = decodeHeader(item.header)?.s ?? "";
    this.#put({ c: item.c, seq: item.seq, session, sender, reason, repaired: false, told: UNTOLD });
    if (!isForged(reason)) this.#await(item.c, item.seq);
    if (reason === "no_key") this.asking.wantKey({ conversation: item.c, session, sender });
  }

  // Keys that are late

  /** When the first one is overdue. */
  nextOverdue(): number | undefined {
    const times = [...this.#late.values()].map((each) => each.until);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** Names what can't be decrypted by now. */
  takeOverdue(): void {
    const now = Date.now();
    for (const [key, { c, until }] of this.#late) {
      if (until > now) continue;
      this.#late.delete(key);
      this.gathered.acks.add(c);
    }
  }

  /** The keys of these have come. */
  async retrySessions(sessions: readonly SessionRef[]): Promise<void> {
    for (const { conversation, session } of sessions) {
      await this.#retry(conversation, (row) => row.session === session);
    }
  }

  /** More devices are known now. */
  async retryDevices(): Promise<void> {
    for (const c of [...this.#undecrypted.keys()]) await this.#retry(c, (row) => row.reason === "unknown_device");
  }

  /** It is known now that nothing is encrypted there: what came before that is what it says. */
  async retryClear(c: string): Promise<void> {
    for (const row of [...this.#rows(c).values()].filter((each) => each.reason === "not_encrypted")) {
      const held = await this.gathered.find(this.store, c, row.seq);
      const body = held?.item.t === "message" ? held.item.body : null;
      const clear = body === null ? undefined : clearOfBody(body);
      if (held !== undefined && clear !== undefined) this.#repair(held, row, clear);
    }
  }

  async #retry(c: string, which: (row: Undecrypted) => boolean): Promise<void> {
    for (const row of [...this.#rows(c).values()].filter((each) => !each.repaired && which(each))) {
      const held = await this.gathered.find(this.store, c, row.seq);
      if (held === undefined || held.item.t !== "message" || held.item.body === null) continue;
      const encrypted = encryptedOf(held.item.body);
      if (encrypted === undefined) continue;
      const found = await this.#decrypt(held.item, held.item.body, encrypted);
      if (typeof found !== "string") this.#repair(held, row, found);
      else if (found !== row.reason) this.#learn(held, row, found);
    }
  }

  #repair(held: Held, row: Undecrypted, clear: Clear): void {
    this.#late.delete(`${row.c} ${row.seq}`);
    if (row.told === UNTOLD) this.#forget(row);
    else this.#put({ ...row, repaired: true, told: TELL_AGAIN });
    this.gathered.put({ c: held.c, seq: held.seq, item: held.item, clear });
    this.gathered.acks.add(row.c);
  }

  /** The key has come, and shows what else is missing, or that the message is not what it should be. */
  #learn(held: Held, row: Undecrypted, reason: Undecryptable): void {
    this.#put({ ...row, reason });
    this.gathered.put({ ...held, reason });
    if (reason === "no_key") {
      this.asking.wantKey({ conversation: row.c, session: row.session, sender: row.sender });
    }
    if (isForged(reason)) {
      this.#late.delete(`${row.c} ${row.seq}`);
      this.gathered.acks.add(row.c);
    }
  }

  // What the server is told

  /** After a welcome, by which this device is known to have come so far: what may have been lost with the last connection
   *  is said again, and keys are asked for again. */
  async lookOver(c: string, delivered: number): Promise<void> {
    this.#heard.set(c, delivered);
    this.sayAgain(c);
    if (!this.#undecrypted.has(c)) return;
    // A key may have been stored, and the page closed before its messages were looked at.
    await this.#retry(c, () => true);
    this.#wantKeys(c);
  }

  /** Of all that can't be read and is not just late. */
  wantKeys(): void {
    for (const c of this.#undecrypted.keys()) this.#wantKeys(c);
  }

  #wantKeys(c: string): void {
    for (const row of this.#rows(c).values()) {
      if (row.reason !== "no_key" || row.repaired || this.#late.has(`${c} ${row.seq}`)) continue;
      this.asking.wantKey({ conversation: c, session: row.session, sender: row.sender });
    }
  }

  /** What the server is not known to have heard is said again by the next acknowledgement. */
  sayAgain(c: string): void {
    if (!this.#undecrypted.has(c)) return;
    const heard = this.#heard.get(c) ?? 0;
    for (const row of [...this.#rows(c).values()]) {
      // It has heard a later statement. On each connection until then the repair was said before that.
      if (row.repaired && row.told > 0 && row.told < heard) this.#forget(row);
      else if (row.told > 0 && (row.repaired || row.seq > heard)) this.#put({ ...row, told: TELL_AGAIN });
    }
    if ([...this.#rows(c).values()].some((row) => row.repaired)) this.gathered.acks.add(c);
  }

  /** The statements of how far this device has come, in the order in which they are to be sent. They are stored as told by
   *  what is gathered, which is to be stored before they leave. */
  acks(c: string, cursor: number, read: number): Ack[] {
    const late = [...this.#late.values()].filter((each) => each.c === c).map((each) => each.seq - 1);
    const upto = Math.min(cursor, ...late);
    const rows = [...this.#rows(c).values()]
      .filter((row) => row.told <= 0 && row.seq <= upto)
      .sort((one, other) => one.seq - other.seq);
    let undecryptable = rows.filter((row) => !row.repaired).map((row) => row.seq);
    let repaired = rows.filter((row) => row.repaired).map((row) => row.seq);
    for (const row of rows) this.#put({ ...row, told: upto });
    const acks: Ack[] = [];
    while (undecryptable.length > NAMED_MAX) {
      const part = undecryptable.slice(0, NAMED_MAX);
      undecryptable = undecryptable.slice(NAMED_MAX);
      const last = part.at(-1) ?? 0;
      acks.push({ t: "ack", c, upto: last, read: Math.min(read, last), undecryptable: part, repaired: [] });
    }
    do {
      acks.push({ t: "ack", c, upto, read, undecryptable, repaired: repaired.slice(0, NAMED_MAX) });
      undecryptable = [];
      repaired = repaired.slice(NAMED_MAX);
    } while (repaired.length > 0);
    return acks;
  }

  /** The server has lost what lies beyond this seq: other messages will have these seqs. */
  goBack(c: string, kept: number): void {
    for (const row of [...this.#rows(c).values()]) if (row.seq > kept) this.#forget(row);
    for (const [key, late] of this.#late) if (late.c === c && late.seq > kept) this.#late.delete(key);
  }

  #await(c: string, seq: number): void {
    this.#late.set(`${c} ${seq}`, { c, seq, until: Date.now() + KEY_GRACE_MS });
  }

  #rows(c: string): Map<number, Undecrypted> {
    let rows = this.#undecrypted.get(c);
    if (rows === undefined) this.#undecrypted.set(c, (rows = new Map()));
    return rows;
  }

  #put(row: Undecrypted): void {
    this.#rows(row.c).set(row.seq, row);
    this.gathered.batch.put("undecrypted", [row.c, row.seq], row);
  }

  #forget(row: Undecrypted): void {
    this.#rows(row.c).delete(row.seq);
    this.gathered.batch.delete("undecrypted", [row.c, row.seq]);
  }
}

