/** OlmMachine as this client uses it: the device's keys, Olm and Megolm. What a call changes it has in its own database
 *  before the call returns. It neither checks who vouches for a device (`lists.ts` does, before it hears of one), nor
 *  whether a position of a session is used twice (`reading.ts` does). */

import {
  CollectStrategy, DecryptionErrorCode, DecryptionSettings, DeviceId, DeviceKeyId, DeviceLists, EncryptionAlgorithm,
  EncryptionSettings, HistoryVisibility, MegolmDecryptionError, OlmMachine, ProcessedToDeviceEventType, RequestType, RoomId,
  TrustRequirement, UserId, initAsync,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import type { KeysClaimRequest } from "@matrix-org/matrix-sdk-crypto-wasm";
import { MEGOLM, MESSAGE, clearOfEvent, encodeContent } from "./content";
import type { Encrypted } from "./content";
import { accountOf, conversationOf, eventId, roomId, userId } from "./matrixIds";
import type { Address, Clear, Profile } from "./records";
import { list, object, optional, parse, plainObject, text, tryParse } from "./shape";
import type { Of } from "./shape";
import type { Mail } from "./wire";

const SIGNED_CURVE25519 = "signed_curve25519";
const ROTATE_AFTER_MESSAGES = 100n;
const ROTATE_AFTER_US = BigInt(7 * 86_400) * 1_000_000n;

const REQUEST = "m.room_key_request";
const ROOM_KEY = "m.room_key";
/** Like Matrix's `m.forwarded_room_key`, whose key OlmMachine blanks before it gives the event out. */
export const GIVEN_KEY = "signet.room_key";
/** What the clients understand that do their encryption by themselves. */
export const FORWARDED_KEY = "m.forwarded_room_key";

const olmEvent = object({ type: text(256), sender: text(512), content: plainObject });
const roomKey = object({ room_id: text(256), session_id: text(256) });
const keyRequest = object({
  action: text(64),
  requesting_device_id: text(256),
  "signet.answer": optional(text(64), FORWARDED_KEY),
  body: roomKey,
});
const givenKey = object({
  room_id: text(256),
  session_id: text(256),
  session_key: text(4_096),
  "signet.account": text(64),
  "signet.device": text(256),
});
const exported = list(
  object({
    session_id: text(256),
    session_key: text(4_096),
    sender_key: text(256),
    sender_claimed_keys: object({ ed25519: optional(text(256), "") }),
  }),
);

/** One device's session in a conversation. */
export interface SessionRef {
  readonly conversation: string;
  readonly session: string;
}

/** Somebody asks for the key of a session. */
export interface KeyRequest extends SessionRef {
  readonly account: string;
  readonly device: string;
  /** As what it wants to get it. */
  readonly answer: string;
}

/** The key of a session that somebody has given on. */
export interface GivenKey extends SessionRef {
  /** The device that gave it, by its Curve25519 key. */
  readonly from: { readonly account: string; readonly curve25519: string };
  /** Whose session it is said to be. */
  readonly owner: Address;
  readonly key: string;
}

export interface MailTaken {
  readonly sessions: readonly SessionRef[];
  readonly given: readonly GivenKey[];
  readonly requests: readonly KeyRequest[];
  /** Accounts whose mail could not be decrypted: there is something wrong with the sessions with them. */
  readonly wedged: readonly string[];
}

export interface Decrypted {
  readonly clear: Clear | undefined;
  /** The keys of the device from which the session has come. */
  readonly ed25519: string | undefined;
  readonly curve25519: string;
}

export class NotDecrypted extends Error {
  constructor(readonly reason: "no_key" | "unknown_device" | "forged_header" | "tampered") {
    super(reason);
  }
}

export interface ExportedKey {
  readonly key: string;
  readonly curve25519: string;
  readonly ed25519: string;
}

/** What is to be asked of the server in the machine's name. */
export interface Errand {
  readonly id: string;
  readonly type: RequestType;
  readonly body: string;
}

export interface ToDevice extends Errand {
  readonly event: string;
  readonly transaction: string;
}

export class Machine {
  readonly key: string;
  readonly curve25519: string;

  private constructor(
    private readonly olm: OlmMachine,
    private readonly profile: Pick<Profile, "server" | "account" | "device">,
  ) {
    this.key = olm.identityKeys.ed25519.toBase64();
    this.curve25519 = olm.identityKeys.curve25519.toBase64();
  }

  /** The device's machine, with new keys where its database is new. */
  static async open(profile: Pick<Profile, "server" | "account" | "device">, database: string): Promise<Machine> {
    await initAsync();
    const user = new UserId(userId(profile.account, profile.server));
    const olm = await OlmMachine.initialize(user, new DeviceId(profile.device), database);
    // Who may ask for a key, and who has it, the log says: OlmMachine doesn't know of it.
    olm.roomKeyRequestsEnabled = false;
    olm.roomKeyForwardingEnabled = false;
    return new Machine(olm, profile);
  }

  close(): void {
    this.olm.close();
  }

  /** The device's Ed25519 signature. */
  async sign(signed: string): Promise<string> {
    const signatures = await this.olm.sign(signed);
    const signature = signatures.getSignature(this.#user(), new DeviceKeyId(`ed25519:${this.profile.device}`));
    if (signature === undefined) throw new Error("the device's key has not signed");
    return signature.toBase64();
  }

  // Mail and errands

  async takeMail(mails: readonly Mail[]): Promise<MailTaken> {
    const requests: KeyRequest[] = [];
    const events: unknown[] = [];
    for (const mail of mails) {
      const content = tryParse(plainObject, mail.content);
      if (content === undefined) continue;
      if (mail.type === REQUEST) requests.push(...this.#requestOf(mail.sender, mail.content));
      else events.push({ type: mail.type, sender: mail.sender, content });
    }
    const taken = { sessions: [] as SessionRef[], given: [] as GivenKey[], requests, wedged: [] as string[] };
    if (events.length === 0) return taken;
    const processed = await this.olm.receiveSyncChangesMsc4186(
      JSON.stringify(events), new DeviceLists(), new Map(), undefined, untrusted(),
    );
    for (const each of processed) {
      const event = tryParse(olmEvent, each.rawEvent);
      const sender = event && accountOf(event.sender, this.profile.server);
      if (event === undefined || sender === undefined) continue;
      if (each.type === ProcessedToDeviceEventType.UnableToDecrypt) taken.wedged.push(sender);
      if (each.type !== ProcessedToDeviceEventType.Decrypted || !("encryptionInfo" in each)) continue;
      const content = JSON.stringify(event.content);
      if (event.type === ROOM_KEY) taken.sessions.push(...sessionOf(tryParse(roomKey, content)));
      if (event.type === GIVEN_KEY) {
        const from = { account: sender, curve25519: each.encryptionInfo.senderCurve25519Key };
        taken.given.push(...givenOf(tryParse(givenKey, content), from));
      }
    }
    return taken;
  }

  #requestOf(user: string, content: string): KeyRequest[] {
    const request = tryParse(keyRequest, content);
    const account = accountOf(user, this.profile.server);
    if (request === undefined || account === undefined || request.action !== "request") return [];
    const answer = request["signet.answer"] === GIVEN_KEY ? GIVEN_KEY : FORWARDED_KEY;
    return sessionOf(request.body).map((session) => ({
      ...session, account, device: request.requesting_device_id, answer,
    }));
  }

  /** What the server has left of this device's one-time keys. */
  async hearCounts(left: number, fallbackUsed: boolean): Promise<void> {
    const unused = new Set(fallbackUsed ? [] : [SIGNED_CURVE25519]);
    await this.olm.receiveSyncChanges("[]", new DeviceLists(), new Map([[SIGNED_CURVE25519, left]]), unused, untrusted());
  }

  /** Its uploads of keys. All else it may want, this client asks for by itself. */
  async uploads(): Promise<Errand[]> {
    const requests = await this.olm.outgoingRequests();
    return requests.flatMap(({ id, type, body }) =>
      type === RequestType.KeysUpload && id !== undefined ? [{ id, type, body }] : [],
    );
  }

  /** An errand is done; `answer` is the server's, in Matrix's form. */
  async done(errand: Errand, answer: unknown): Promise<void> {
    await this.olm.markRequestAsSent(errand.id, errand.type, JSON.stringify(answer));
  }

  // Devices

  /** Takes in who has which devices. `keys`: user → device → its signed keys; who is not among them has none. */
  async takeDevices(keys: Readonly<Record<string, Readonly<Record<string, unknown>>>>): Promise<void> {
    const query = this.olm.queryKeysForUsers(Object.keys(keys).map((user) => new UserId(user)));
    await this.done(query, { device_keys: keys, failures: {} });
    // It wants to know some by itself, and would wait seconds for them before it begins a session.
    for (const { id, type, body } of await this.olm.outgoingRequests()) {
      if (type !== RequestType.KeysQuery || id === undefined) continue;
      const asked = Object.keys(parse(queryBody, body, "query").device_keys);
      const named = asked.flatMap((user) => (keys[user] === undefined ? [] : [[user, keys[user]] as const]));
      const answer = { device_keys: Object.fromEntries(named), failures: {} };
      if (named.length > 0) await this.done({ id, type, body }, answer);
    }
  }

  /** The one-time keys to be claimed for sessions with these accounts' devices: user → device → algorithm. */
  async claim(accounts: readonly string[]): Promise<{ errand: Errand; wanted: Wanted } | undefined> {
    const request: KeysClaimRequest | null = (await this.olm.getMissingSessions(this.#users(accounts))) ?? null;
    if (request === null) return undefined;
    const { id, type, body } = request;
    return { errand: { id, type, body }, wanted: parse(claimBody, body, "claim").one_time_keys as Wanted };
  }

  /** The content of mail to a device, encrypted by Olm; undefined where there is no session with it. */
  async encryptFor(account: string, device: string, type: string, content: object): Promise<unknown> {
    const found = await this.olm.getDevice(new UserId(userId(account, this.profile.server)), new DeviceId(device));
    if (found === undefined) return undefined;
    try {
      return JSON.parse(await found.encryptToDeviceEvent(type, content, CollectStrategy.allDevices())) as unknown;
    } catch {
      return undefined;
    }
  }

  // Conversations

  /** The mail by which all devices of these accounts get the key of the present session, or of a new one. */
  async share(conversation: string, accounts: readonly string[]): Promise<ToDevice[]> {
    const settings = new EncryptionSettings();
    settings.algorithm = EncryptionAlgorithm.MegolmV1AesSha2;
    settings.sharingStrategy = CollectStrategy.allDevices();
    settings.historyVisibility = HistoryVisibility.Joined;
    settings.rotationPeriodMessages = ROTATE_AFTER_MESSAGES;
    settings.rotationPeriod = ROTATE_AFTER_US;
    const requests = await this.olm.shareRoomKey(new RoomId(roomId(conversation)), this.#users(accounts), settings);
    return requests.map((request) => ({
      id: request.id,
      type: request.type,
      body: request.body,
      event: request.event_type,
      transaction: request.txn_id,
    }));
  }

  /** The next message is of another session: somebody who has the key is gone. */
  async endSession(conversation: string): Promise<void> {
    await this.olm.invalidateGroupSession(new RoomId(roomId(conversation)));
  }

  /** The body of a message. Only after `share`, since the last `endSession`: else OlmMachine panics. */
  encrypt(conversation: string, clear: Clear): Promise<string> {
    return this.olm.encryptRoomEvent(new RoomId(roomId(conversation)), MESSAGE, encodeContent(clear));
  }

  /** Throws NotDecrypted. */
  async decrypt(on: {
    conversation: string;
    message: string;
    sender: string;
    at: number;
    body: string;
  }): Promise<Decrypted> {
    const event = {
      type: "m.room.encrypted",
      event_id: eventId(on.message),
      sender: userId(on.sender, this.profile.server),
      origin_server_ts: Math.floor(on.at / 1_000),
      room_id: roomId(on.conversation),
      content: JSON.parse(on.body) as Encrypted,
    };
    try {
      const found = await this.olm.decryptRoomEvent(
        JSON.stringify(event), new RoomId(roomId(on.conversation)), untrusted(),
      );
      return {
        clear: clearOfEvent(found.event),
        ed25519: found.senderClaimedEd25519Key,
        curve25519: found.senderCurve25519Key,
      };
    } catch (error) {
      if (error instanceof MegolmDecryptionError) throw new NotDecrypted(reasonOf(error.code));
      throw error;
    }
  }

  // Keys that are given on

  /** The key of a session that this device has; undefined: it has not. */
  async exportKey({ conversation, session }: SessionRef): Promise<ExportedKey | undefined> {
    const room = roomId(conversation);
    const keys = await this.olm.exportRoomKeys(
      (each) => each.sessionId === session && each.roomId.toString() === room,
    );
    const found = parse(exported, keys, "exported keys")[0];
    return found && {
      key: found.session_key, curve25519: found.sender_key, ed25519: found.sender_claimed_keys.ed25519,
    };
  }

  /** Takes a key in as that of a session of this device; whether it is one. */
  async importKey({ conversation, session }: SessionRef, key: ExportedKey): Promise<boolean> {
    const keys = [
      {
        algorithm: MEGOLM,
        room_id: roomId(conversation),
        session_id: session,
        session_key: key.key,
        sender_key: key.curve25519,
        sender_claimed_keys: { ed25519: key.ed25519 },
        forwarding_curve25519_key_chain: [],
      },
    ];
    try {
      await this.olm.importExportedRoomKeys(JSON.stringify(keys), () => undefined);
      return true;
    } catch {
      return false;
    }
  }

  #user(): UserId {
    return new UserId(userId(this.profile.account, this.profile.server));
  }

  /** New ones for each call: it takes them over. */
  #users(accounts: readonly string[]): UserId[] {
    return accounts.map((account) => new UserId(userId(account, this.profile.server)));
  }
}

export type Wanted = Readonly<Record<string, Readonly<Record<string, string>>>>;

const queryBody = object({ device_keys: plainObject });
const claimBody = object({ one_time_keys: plainObject });

/** A new one for each call, which takes it over. Whom to believe is decided by `lists.ts` and by signed headers. */
function untrusted(): DecryptionSettings {
  return new DecryptionSettings(TrustRequirement.Untrusted);
}

function sessionOf(found: Of<typeof roomKey> | undefined): SessionRef[] {
  const conversation = found && conversationOf(found.room_id);
  return found === undefined || conversation === undefined ? [] : [{ conversation, session: found.session_id }];
}

function givenOf(found: Of<typeof givenKey> | undefined, from: GivenKey["from"]): GivenKey[] {
  if (found === undefined) return [];
  const owner = { account: found["signet.account"], device: found["signet.device"] };
  return sessionOf(found).map((session) => ({ ...session, from, owner, key: found.session_key }));
}

function reasonOf(code: DecryptionErrorCode): NotDecrypted["reason"] {
  switch (code) {
    case DecryptionErrorCode.MissingRoomKey:
    case DecryptionErrorCode.UnknownMessageIndex:
      return "no_key";
    case DecryptionErrorCode.UnknownSenderDevice:
    case DecryptionErrorCode.UnsignedSenderDevice:
      return "unknown_device";
    case DecryptionErrorCode.MismatchedIdentityKeys:
    case DecryptionErrorCode.MismatchedSender:
    case DecryptionErrorCode.SenderIdentityVerificationViolation:
      return "forged_header";
    case DecryptionErrorCode.UnableToDecrypt:
      return "tampered";
  }
}
