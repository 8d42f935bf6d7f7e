/** Where the person is, as the fragment of the address says: `#/` the list, `#/c/<id>` a conversation, and `#<account>`,
 *  somebody's link. Nothing in it is secret. */

import { signal } from "@preact/signals";
import { accountIn } from "./addresses";

export type Route =
  | { readonly kind: "list" }
  | { readonly kind: "conversation"; readonly id: string }
  | { readonly kind: "address"; readonly address: string };

export const route = signal<Route>(parseFragment(location.hash));

export function parseFragment(fragment: string): Route {
  const rest = fragment.replace(/^#/u, "");
  const id = /^\/c\/([\w-]{1,64})$/u.exec(rest)?.[1];
  if (id !== undefined) return { kind: "conversation", id };
  const address = rest.startsWith("/") ? undefined : accountIn(rest);
  return address === undefined ? { kind: "list" } : { kind: "address", address };
}

export function conversationHref(id: string): string {
  return `#/c/${id}`;
}

/** Whether the entry before this one in the browser's history is our list. */
function cameFromList(): boolean {
  const state: unknown = history.state;
  return typeof state === "object" && state !== null && "fromList" in state && state.fromList === true;
}

/** From the list it is a step forward; from one conversation to the next it is none, so that back leads to the list. */
export function goToConversation(id: string): void {
  if (route.peek().kind === "conversation") history.replaceState(history.state, "", conversationHref(id));
  else history.pushState({ fromList: true }, "", conversationHref(id));
  route.value = { kind: "conversation", id };
}

export function goToList(): void {
  if (cameFromList()) {
    history.back();
    return;
  }
  history.replaceState(null, "", "#/");
  route.value = { kind: "list" };
}

/** Back, forward, and addresses that were typed. */
export function followHistory(): () => void {
  const follow = (): void => {
    route.value = parseFragment(location.hash);
  };
  window.addEventListener("popstate", follow);
  window.addEventListener("hashchange", follow);
  return () => {
    window.removeEventListener("popstate", follow);
    window.removeEventListener("hashchange", follow);
  };
}
