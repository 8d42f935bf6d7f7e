/** The texts that devices sign, headers, digests and ids (docs/protocol.md). Keys, signatures and digests are unpadded
 *  base64. */

import { count, flag, object, optional, text, tryParse, uuid } from "./shape";
import type { Of } from "./shape";

const ACCOUNTS = "5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a01";
const UTF8 = new TextEncoder();

const header = object({
  id: uuid,
  c: uuid,
  s: uuid,
  d: text(256),
  a: count,
  h: text(64),
  n: optional(flag, true),
});

/** What everybody sees of a message: id, conversation, sender, device, the last seq that the sender knew, the digest of
 *  the body, and whether it counts as unread. */
export type Header = Of<typeof header>;

/** The header as the JSON text that is signed, sent and stored: made once, and never again from a parsed one. */
export function encodeHeader({ id, c, s, d, a, h, n }: Header): string {
  return JSON.stringify({ id, c, s, d, a, h, n });
}

/** Undefined where it is no header. */
export function decodeHeader(encoded: string): Header | undefined {
  return tryParse(header, encoded);
}

export async function digestOf(body: string): Promise<string> {
  return toBase64(new Uint8Array(await crypto.subtle.digest("SHA-256", UTF8.encode(body))));
}

export function helloPayload(on: { nonce: string; server: string; account: string; device: string }): string {
  return lines("signet.hello.v1", on.nonce, on.server, on.account, on.device);
}

export function registrationPayload(on: {
  nonce: string;
  server: string;
  id: string;
  device: string;
  key: string;
}): string {
  return lines("signet.register.v1", on.nonce, on.server, on.id, on.device, on.key);
}

export function linkPayload(on: { server: string; account: string; device: string; key: string }): string {
  return lines("signet.link.v1", on.server, on.account, on.device, on.key);
}

export function receiptPayload(on: {
  conversation: string;
  account: string;
  device: string;
  delivered: number;
  read: number;
  undecryptable: readonly number[];
  repaired: readonly number[];
}): string {
  const marks = [String(on.delivered), String(on.read), on.undecryptable.join(","), on.repaired.join(",")];
  return lines("signet.receipt.v1", on.conversation, on.account, on.device, ...marks);
}

function lines(...parts: readonly string[]): string {
  if (parts.some((part) => part.includes("\n"))) throw new Error("a part of a signed text may not hold a line break");
  return parts.join("\n");
}

/** Whether it is this Ed25519 key's signature of the text. */
export async function verify(key: string, signed: string, signature: string): Promise<boolean> {
  try {
    const imported = await crypto.subtle.importKey("raw", fromBase64(key), "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, fromBase64(signature), UTF8.encode(signed));
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotSupportedError") throw error;
    return false;
  }
}

/** The id of the account that the registration with this command id makes, where it says `"named": "id"`. */
export function accountId(command: string): Promise<string> {
  return uuid5(ACCOUNTS, `${command}\n`);
}

/** RFC 9562, version 5. */
export async function uuid5(namespace: string, name: string): Promise<string> {
  const within = Uint8Array.from(namespace.replaceAll("-", "").match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  const hashed = await crypto.subtle.digest("SHA-1", new Uint8Array([...within, ...UTF8.encode(name)]));
  const bytes = new Uint8Array(hashed, 0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x50;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export function toBase64(bytes: Uint8Array): string {
  const chunks: string[] = [];
  for (let start = 0; start < bytes.length; start += 8_192) {
    chunks.push(String.fromCharCode(...bytes.subarray(start, start + 8_192)));
  }
  return btoa(chunks.join("")).replace(/=+$/, "");
}

/** Throws where the text is no unpadded base64. */
export function fromBase64(encoded: string): Uint8Array<ArrayBuffer> {
  if (!/^[A-Za-z0-9+/]*$/.test(encoded)) throw new Error("no unpadded base64");
  return Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
}

export function bytesIn(encoded: string): number {
  return UTF8.encode(encoded).length;
}
