/** What is inside: a message as a Matrix event, the form of an encrypted one, and the body of one that is not encrypted. */

import { toBase64 } from "./payloads";
import { anything, count, maybe, object, oneOf, optional, text, tryParse } from "./shape";
import type { Of } from "./shape";
import type { Clear } from "./records";

export const MEGOLM = "m.megolm.v1.aes-sha2";
export const MESSAGE = "m.room.message";

const SALT_BYTES = 16;
const TEXT_MAX = 1_048_576;

const KINDS: Readonly<Record<string, string>> = {
  text: "m.text", action: "m.emote", image: "m.image", video: "m.video", audio: "m.audio", file: "m.file",
};
const MSGTYPES = new Map(Object.entries(KINDS).map(([kind, msgtype]) => [msgtype, kind]));

const encrypted = object({
  algorithm: oneOf(MEGOLM),
  ciphertext: text(TEXT_MAX),
  session_id: text(256),
});
export type Encrypted = Of<typeof encrypted>;

const event = object({
  type: text(256),
  content: object({
    msgtype: optional(text(256), ""),
    body: optional(text(TEXT_MAX), ""),
    "signet.reply_to": maybe(count),
    "signet.attachment": anything,
  }),
});

const body = object({
  kind: text(256),
  text: text(TEXT_MAX),
  reply_to: maybe(count),
  attachment: anything,
});

/** Undefined: the body has not the form of an encrypted one. */
export function encryptedOf(encoded: string): Encrypted | undefined {
  return tryParse(encrypted, encoded);
}

/** The content of the event that is encrypted. */
export function encodeContent(clear: Clear): string {
  return JSON.stringify({
    msgtype: KINDS[clear.kind] ?? clear.kind,
    body: clear.text,
    ...(clear.replyTo === undefined ? {} : { "signet.reply_to": clear.replyTo }),
    ...(clear.attachment === undefined ? {} : { "signet.attachment": clear.attachment }),
  });
}

/** What a decrypted event says; undefined where it is none. One of a kind that this client doesn't know has its type as its
 *  kind, and perhaps no text. */
export function clearOfEvent(encoded: string): Clear | undefined {
  const found = tryParse(event, encoded);
  if (found === undefined) return undefined;
  const { msgtype, body: said } = found.content;
  const kind = MSGTYPES.get(msgtype) ?? (msgtype === "" ? found.type : msgtype);
  return clearOf(kind, said, found.content["signet.reply_to"], found.content["signet.attachment"]);
}

export function encodeBody(clear: Clear): string {
  return JSON.stringify({
    kind: clear.kind,
    text: clear.text,
    ...(clear.replyTo === undefined ? {} : { reply_to: clear.replyTo }),
    ...(clear.attachment === undefined ? {} : { attachment: clear.attachment }),
    salt: toBase64(crypto.getRandomValues(new Uint8Array(SALT_BYTES))),
  });
}

export function clearOfBody(encoded: string): Clear | undefined {
  const found = tryParse(body, encoded);
  return found && clearOf(found.kind, found.text, found.reply_to, found.attachment);
}

function clearOf(kind: string, said: string, replyTo: number | null, attachment: unknown): Clear {
  return {
    kind,
    text: said,
    ...(replyTo === null ? {} : { replyTo }),
    ...(attachment === undefined || attachment === null ? {} : { attachment }),
  };
}

/** The position in its session that a Megolm message says it has: version 3, then a field 1 (varint), as Megolm's
 *  specification has it. To be believed only once it was decrypted. */
export function positionOf(ciphertext: string): number | undefined {
  let start: string;
  try {
    start = atob(ciphertext.slice(0, 16));
  } catch {
    return undefined;
  }
  if (start.charCodeAt(0) !== 3 || start.charCodeAt(1) !== 8) return undefined;
  let position = 0;
  for (let at = 2, shift = 0; shift <= 28; at += 1, shift += 7) {
    const byte = start.charCodeAt(at);
    if (Number.isNaN(byte)) return undefined;
    position += (byte & 127) * 2 ** shift;
    if (byte < 128) return position;
  }
  return undefined;
}
