/** What was begun and not sent, by conversation. In memory only: it is as private as a message, and not yet one. */

import { signal } from "@preact/signals";

export const drafts = signal<ReadonlyMap<string, string>>(new Map());

export function draftOf(conversation: string): string {
  return drafts.value.get(conversation) ?? "";
}

export function keepDraft(conversation: string, text: string): void {
  const next = new Map(drafts.peek());
  if (text === "") next.delete(conversation);
  else next.set(conversation, text);
  drafts.value = next;
}
