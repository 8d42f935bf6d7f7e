/** Keys of sessions that did not come: asking for them, taking what is given, and giving to who is entitled.
 *
 *  Who may have a key: whoever was a member at every message that this device knows of the session, as the log says; one's
 *  own devices always. (Who came in the middle of a session has its key from there on by the usual way; OlmMachine can't
 *  give a key from a later position on.) */

import { GIVEN_KEY } from "./machine";
import type { ExportedKey, GivenKey, KeyRequest, Machine, SessionRef } from "./machine";
import type { Lists } from "./lists";
import { MEGOLM } from "./content";
import { roomId } from "./matrixIds";
import { decodeHeader, fromBase64, toBase64 } from "./payloads";
import type { KeyWanted } from "./reading";
import type { Address, Conversation } from "./records";
import type { Store } from "./store";

/** After how long a key that has not come is asked for again, at most once a connection. */
const ASK_AGAIN_MS = 3_600_000;
/** How long after a start what was asked for before it may be asked for once more: by then whoever has answered answers again. */
export const ASK_ONCE_MORE_MS = 65_000;
/** How often one device gets the key of one session at most. */
const ANSWER_AGAIN_MS = 60_000;
const ANSWERS_MAX = 10_000;

const SIGNING_KEY_AT = 1 + 4 + 128;
const EXPORTED_BYTES = SIGNING_KEY_AT + 32;

export class Asking {
  readonly #asked: Map<string, number>;
  readonly #begun = Date.now();
  readonly #answered = new Map<string, number>();

  constructor(
    private readonly me: Address,
    private readonly machine: Machine,
    private readonly lists: Lists,
    private readonly store: Store,
    asked: readonly { readonly c: string; readonly session: string; readonly at: number }[],
  ) {
    this.#asked = new Map(asked.map((each) => [`${each.c} ${each.session}`, each.at]));
  }

  /** Whom to ask for the key of a session, and how; undefined: it was asked for of late, or there is nobody. */
  ask({ conversation, session, sender }: KeyWanted): { to: readonly Address[]; content: object; at: number } | undefined {
    const at = Date.now();
    const place = `${conversation} ${session}`;
    if (at - (this.#asked.get(place) ?? Number.NEGATIVE_INFINITY) < ASK_AGAIN_MS) return undefined;
    const to = [...new Set([sender, this.me.account])]
      .flatMap((account) => this.lists.activeOf(account).map((device) => ({ account, device })))
      .filter((each) => each.account !== this.me.account || each.device !== this.me.device);
    if (to.length === 0) return undefined;
    this.#asked.set(place, at);
    const content = {
      action: "request",
      request_id: `${session}.${Math.floor(at / 1_000)}`,
      requesting_device_id: this.me.device,
      "signet.answer": GIVEN_KEY,
      body: { algorithm: MEGOLM, room_id: roomId(conversation), session_id: session },
    };
    return { to, content, at };
  }

  /** A page that was closed between the opening of its mail and the storing of what was in it has lost the answer. */
  askOnceMore(): void {
    for (const [place, at] of this.#asked) if (at <= this.#begun) this.#asked.set(place, Number.NEGATIVE_INFINITY);
  }

  /** Whether a key is one that this device has asked for, from a device of its owner's account or of one's own. */
  isAwaited(given: GivenKey): boolean {
    const mayGive = given.from.account === given.owner.account || given.from.account === this.me.account;
    return mayGive && this.#asked.has(`${given.conversation} ${given.session}`) && sessionOfKey(given.key) === given.session;
  }

  /** Takes an awaited key, if owner and giver are known; whether it is taken. */
  async take(given: GivenKey): Promise<boolean> {
    const owner = this.lists.pinOf(given.owner.account, given.owner.device);
    const giver = this.lists.deviceOf(given.from.account, given.from.curve25519);
    if (owner === undefined || giver === undefined) return false;
    return this.machine.importKey(given, { key: given.key, ...owner });
  }

  /** What a device that asks is to be told; undefined: nothing. */
  async answer(request: KeyRequest, conversation: Conversation): Promise<object | undefined> {
    const place = JSON.stringify([request.account, request.device, request.conversation, request.session]);
    const now = Date.now();
    if (now - (this.#answered.get(place) ?? Number.NEGATIVE_INFINITY) < ANSWER_AGAIN_MS) return undefined;
    const key = await this.machine.exportKey(request);
    const owner = key && (await this.#ownerOf(request, key));
    if (key === undefined || owner === undefined || !(await this.#isEntitled(request, owner, conversation))) {
      return undefined;
    }
    if (this.#answered.size >= ANSWERS_MAX) this.#answered.clear();
    this.#answered.set(place, now);
    return {
      algorithm: MEGOLM,
      room_id: roomId(request.conversation),
      session_id: request.session,
      session_key: key.key,
      sender_key: key.curve25519,
      sender_claimed_ed25519_key: key.ed25519,
      forwarding_curve25519_key_chain: [],
      "signet.account": owner.account,
      "signet.device": owner.device,
    };
  }

  async #ownerOf({ session }: SessionRef, key: ExportedKey): Promise<Address | undefined> {
    const own = this.lists.deviceOf(this.me.account, key.curve25519);
    if (own !== undefined) return { account: this.me.account, device: own };
    for (const { c, seq } of await this.store.positions(session)) {
      const held = await this.store.item(c, seq);
      const header = held?.item.t === "message" ? decodeHeader(held.item.header) : undefined;
      if (header !== undefined) return { account: header.s, device: header.d };
    }
    return undefined;
  }

  async #isEntitled(request: KeyRequest, owner: Address, conversation: Conversation): Promise<boolean> {
    if (request.account === this.me.account) return true;
    if (owner.account !== this.me.account || conversation.membersAt === 0) return false;
    const positions = await this.store.positions(request.session);
    const seqs = positions.filter((each) => each.c === request.conversation).map((each) => each.seq);
    return this.#wasMember(conversation, request.account, seqs);
  }

  /** Whether the account was a member at each of these seqs: from the members of now, back over the changes. */
  async #wasMember(conversation: Conversation, account: string, seqs: readonly number[]): Promise<boolean> {
    let isMember = conversation.members.has(account);
    const later = await this.store.items(conversation.id, Math.min(conversation.cursor, ...seqs));
    const changes = later.flatMap(({ item }) =>
      item.t === "change" && item.accounts.includes(account) ? [item] : [],
    );
    for (const seq of [...seqs].sort((one, other) => other - one)) {
      for (let change = changes.at(-1); change !== undefined && change.seq > seq; change = changes.at(-1)) {
        changes.pop();
        if (change.what === "started" || change.what === "added") isMember = false;
        if (change.what === "removed" || change.what === "left") isMember = true;
      }
      if (!isMember) return false;
    }
    return isMember;
  }
}

/** The session whose key this is: version 1, four bytes of index, 128 of ratchet, and the session's Ed25519 key, as
 *  Megolm's specification has it. OlmMachine goes by that, whatever session is named beside it. */
function sessionOfKey(key: string): string | undefined {
  try {
    const bytes = fromBase64(key);
    return bytes.length === EXPORTED_BYTES && bytes[0] === 1 ? toBase64(bytes.subarray(SIGNING_KEY_AT)) : undefined;
  } catch {
    return undefined;
  }
}
