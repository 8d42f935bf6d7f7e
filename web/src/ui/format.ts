/** Times, numbers, initials and colours. Times and numbers are written as the browser's language has it. */

const NUMBER = new Intl.NumberFormat();
const TIME = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const SHORT_DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const GRAPHEMES = new Intl.Segmenter(undefined, { granularity: "grapheme" });

const DAY_MS = 86_400_000;
const TIME_MAX_MS = 8.64e15;

/** How many colours avatars and names have: `hue-0` and on in people.css. */
export const HUES = 8;

export function formatNumber(value: number): string {
  return NUMBER.format(value);
}

/** Others say when something was: what is no time is not shown, since Intl would throw. */
function formatted(format: Intl.DateTimeFormat, at: number): string {
  return Number.isFinite(at) && Math.abs(at) <= TIME_MAX_MS ? format.format(at) : "";
}

export function formatTime(at: number): string {
  return formatted(TIME, at);
}

export function formatFull(at: number): string {
  return formatted(FULL, at);
}

/** For the attribute `datetime`. */
export function formatMachine(at: number): string {
  return Number.isFinite(at) && Math.abs(at) <= TIME_MAX_MS ? new Date(at).toISOString() : "";
}

/** The start of the local day in which this is. */
export function dayOf(at: number): number {
  const day = new Date(at);
  return new Date(day.getFullYear(), day.getMonth(), day.getDate()).getTime();
}

interface DayNames {
  readonly today: string;
  readonly yesterday: string;
}

function daysAgo(at: number, now: number): number {
  // Rounded: a day in which the clocks are changed has 23 or 25 hours.
  return Math.round((dayOf(now) - dayOf(at)) / DAY_MS);
}

/** For the separators of days. */
export function formatDay(at: number, now: number, names: DayNames): string {
  const ago = daysAgo(at, now);
  if (ago === 0) return names.today;
  if (ago === 1) return names.yesterday;
  return formatted(ago > 1 && ago < 7 ? WEEKDAY : DATE, at);
}

/** For the list of conversations: the time today, the day else. */
export function formatListTime(at: number, now: number, names: DayNames): string {
  const ago = daysAgo(at, now);
  if (ago === 0) return formatTime(at);
  if (ago === 1) return names.yesterday;
  return formatted(ago > 1 && ago < 7 ? WEEKDAY : SHORT_DATE, at);
}

/** Controls, marks that reorder what is written, and blanks without width: nothing that a name needs, and good for
 *  disguise. What joins emoji and letters (U+200C, U+200D) stays. */
const NOT_IN_NAMES = /[\p{Cc}\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0]/gu;

/** A name or title of others, as it may stand in a line of ours. */
export function cleanName(name: string): string {
  return name.replace(NOT_IN_NAMES, " ").replace(/\s+/gu, " ").trim();
}

/** One or two letters. */
export function initialsOf(name: string): string {
  const words = cleanName(name).split(/\s+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const [first, last] = [words[0], words.length > 1 ? words[words.length - 1] : undefined];
  if (first === undefined) return firstGrapheme(cleanName(name)) || "?";
  return (firstLetter(first) + (last === undefined ? "" : firstLetter(last))).toLocaleUpperCase();
}

function firstLetter(word: string): string {
  return /[\p{L}\p{N}]/u.exec(word)?.[0] ?? "";
}

function firstGrapheme(text: string): string {
  const [first] = GRAPHEMES.segment(text);
  // A letter with a tower of marks is no initial; its base is.
  return first === undefined ? "" : first.segment.length > 16 ? String.fromCodePoint(first.segment.codePointAt(0) ?? 63) : first.segment;
}

/** The same colour for the same id, always and in every browser. FNV-1a. */
export function hueOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i += 1) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193) >>> 0;
  return hash % HUES;
}
