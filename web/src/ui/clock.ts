/** Now, as precisely as "Today" and "Yesterday" need it. */

import { signal } from "@preact/signals";
import { dayOf } from "./format";

const LOOK_EVERY_MS = 30_000;

/** Changes when a new day has begun. */
export const now = signal(Date.now());

setInterval(() => {
  if (dayOf(Date.now()) !== dayOf(now.peek())) now.value = Date.now();
}, LOOK_EVERY_MS);
