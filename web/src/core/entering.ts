/** Log-in links, `#/enter/<secret>`: whoever opens one becomes a new device of the account that it is for. */

import type { Person } from "../model";

const BEGINNING = "#/enter/";

/** The link that was opened, kept until it is used: the address bar has its secret no more. */
export interface EntryLink {
  readonly secret: string;
  /** Whom it lets in, once the server has said so. */
  readonly person?: Person;
}

/** The secret of the link that this page was opened by. From then on it stands neither in the address bar nor in the
 *  tab's history. */
export function takeSecret(): string | undefined {
  if (!location.hash.startsWith(BEGINNING)) return undefined;
  const secret = location.hash.slice(BEGINNING.length);
  history.replaceState(null, "", "#/");
  return secret;
}
