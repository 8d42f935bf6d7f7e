/** Accounts, conversations and messages as Matrix's libraries name them. */

import { isUuid } from "./shape";

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
