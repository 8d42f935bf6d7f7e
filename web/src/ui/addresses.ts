/** What people enter to write to somebody: an account's id, or a link that ends with one. */

const ACCOUNT_AT_END = /(?:^|[#/\s])([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/?$/iu;

/** Longer is nothing that anybody means. */
export const ADDRESS_CHARS_MAX = 512;

export function accountIn(address: string): string | undefined {
  return ACCOUNT_AT_END.exec(address.trim())?.[1]?.toLowerCase();
}

/** Several addresses, as they are pasted from a mail or a table. */
export function splitAddresses(text: string): string[] {
  return text.split(/[\s,;]+/u).filter((part) => part !== "");
}

/** What a chip shows: the beginning of the id is enough to tell addresses apart. */
export function shortAddress(address: string): string {
  const account = accountIn(address);
  return account === undefined ? address : account.slice(0, 13) + "…";
}
