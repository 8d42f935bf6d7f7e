/** Work in steps of which each may fail at the server. */

import { ApiRefused, Unreachable } from "./api";

export function isOfServer(error: unknown): boolean {
  return error instanceof ApiRefused || error instanceof Unreachable;
}

/** Does all of them, one after the other; throws the first failure that the server is at fault for, or any other at once. */
export async function allOf(steps: readonly (() => Promise<void>)[]): Promise<void> {
  let failure: unknown;
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      if (!isOfServer(error)) throw error;
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
}

export function parts<T>(whole: readonly T[], size: number): (readonly T[])[] {
  const found: (readonly T[])[] = [];
  for (let start = 0; start < whole.length; start += size) found.push(whole.slice(start, start + size));
  return found;
}

