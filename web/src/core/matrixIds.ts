/** Matrix's shapes, as far as this client makes or checks them by itself: ids, and what signed objects are signed over. */

import { Malformed, isUuid } from "./shape";

export function userId(account: string, server: string): string {
  return `@${account}:${server}`;
}

/** Undefined where it is no account of this server. */
export function accountOf(user: string, server: string): string | undefined {
  const account = user.slice(1, 37);
  return user === userId(account, server) && isUuid(account) ? account : undefined;
}

export function roomId(conversation: string): string {
  return `!${conversation}`;
}

/** Undefined where it is none of ours. */
export function conversationOf(room: string): string | undefined {
  const conversation = room.slice(1);
  return room.startsWith("!") && isUuid(conversation) ? conversation : undefined;
}

export function eventId(message: string): string {
  return `$${message}`;
}

/** Canonical JSON (the Matrix specification v1.11, appendices): keys in the order of their code points, no spaces. Throws
 *  Malformed where a number is none that it may hold. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).sort(([one], [other]) => compareCodePoints(one, other));
    return `{${entries.map(([key, each]) => `${JSON.stringify(key)}:${canonicalJson(each)}`).join(",")}}`;
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new Malformed("a number that can't be signed");
  return JSON.stringify(value);
}

/** What a signed object is signed over. */
export function signable(signed: Readonly<Record<string, unknown>>): string {
  const { signatures: _, unsigned: __, ...rest } = signed;
  return canonicalJson(rest);
}

/** JavaScript's own order is that of UTF-16 units. */
function compareCodePoints(one: string, other: string): number {
  const [ones, others] = [[...one], [...other]];
  for (const [index, character] of ones.entries()) {
    const difference = (character.codePointAt(0) ?? 0) - (others[index]?.codePointAt(0) ?? -1);
    if (difference !== 0) return difference;
  }
  return ones.length - others.length;
}
