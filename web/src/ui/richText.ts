/** What in a message is more than letters: links, and messages of emoji alone. Text is cut into parts, never made into
 *  markup. */

export type Part = { readonly kind: "text"; readonly text: string } | { readonly kind: "link"; readonly text: string; readonly href: string };

const CANDIDATE = /\bhttps?:\/\/[^\s<>"\u0000-\u001f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+/giu;
const URL_CHARS_MAX = 2_048;
const LARGE_EMOJI_MAX = 3;
/** The longest emoji has some twenty code units; more than that for three of them and blanks is not looked at. */
const EMOJI_CHARS_MAX = 80;
/** Not written as a literal, which the build would have to lower for its target. */
const EMOJI = new RegExp("\\p{RGI_Emoji}", "gv");

export function partsOf(text: string): Part[] {
  const parts: Part[] = [];
  let done = 0;
  for (const match of text.matchAll(CANDIDATE)) {
    const address = withoutTrailing(match[0]);
    const href = safeHref(address);
    if (href === undefined) continue;
    if (match.index > done) parts.push({ kind: "text", text: text.slice(done, match.index) });
    parts.push({ kind: "link", text: address, href });
    done = match.index + address.length;
  }
  if (done < text.length) parts.push({ kind: "text", text: text.slice(done) });
  return parts;
}

/** Without the full stop of the sentence and the bracket around the link. */
function withoutTrailing(address: string): string {
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address.charAt(end - 1);
    if (last === ")" ? closes(address.slice(0, end)) : !/[.,:;!?'’”»\]}*_~]/u.test(last)) break;
  }
  return address.slice(0, end);
}

/** Whether the bracket at the end belongs to the address, as in …/wiki/Signet_(ring). */
function closes(address: string): boolean {
  return address.split("(").length >= address.split(")").length;
}

/** A name before the host is the oldest disguise (https://bank.example@evil.example): such are no links. */
function safeHref(address: string): string | undefined {
  if (address.length > URL_CHARS_MAX || !URL.canParse(address)) return undefined;
  const url = new URL(address);
  const web = url.protocol === "https:" || url.protocol === "http:";
  return web && url.username === "" && url.password === "" ? url.href : undefined;
}

export function isLargeEmoji(text: string): boolean {
  if (text.length > EMOJI_CHARS_MAX) return false;
  const rest = text.replace(EMOJI, "");
  return rest.trim() === "" && (text.match(EMOJI) ?? []).length <= LARGE_EMOJI_MAX && text.trim() !== "";
}

/** The beginning of a long text, not cut within a character. */
export function beginningOf(text: string, chars: number): string {
  if (text.length <= chars) return text;
  const last = text.charCodeAt(chars - 1);
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? chars - 1 : chars);
}
