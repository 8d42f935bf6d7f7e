/** How long to wait before the next attempt. */

const FIRST_MS = 200;
const MAX_MS = 20_000;
/** A connection that stood so long makes the next wait the first again. */
const STEADY_MS = 5_000;
/** One that caught up but stood for less counts as a failure, too, but never makes the wait longer than so many do. */
const FLAPS_MAX = 3;

/** Doubling, and at random between half and all of it. */
export function backoffMs(attempt: number): number {
  return Math.min(MAX_MS, FIRST_MS * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2);
}

/** How many failed connections there were in a row, after one that stood for so long. */
export function failuresAfter(failures: number, stood: { ms: number; wasLive: boolean }): number {
  if (stood.ms > STEADY_MS) return 0;
  return stood.wasLive ? Math.min(failures + 1, FLAPS_MAX) : failures + 1;
}
