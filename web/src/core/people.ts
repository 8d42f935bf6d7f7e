/** What people are called: asked of the server when somebody is to be shown, and kept. */

import { signal } from "@preact/signals";
import type { ReadonlySignal } from "@preact/signals";
import type { Person } from "../model";
import type { Api } from "./api";
import { ApiRefused } from "./api";
import type { Named } from "./records";

/** After how long a name is asked for again; people change theirs seldom. */
const FRESH_MS = 3_600_000;
/** How long somebody is left alone whose name could not be asked for. */
const AGAIN_MS = 30_000;
const AT_ONCE_MAX = 4;

export class People {
  readonly #names = new Map<string, Named>();
  readonly #wanted = new Set<string>();
  readonly #failedAt = new Map<string, number>();
  readonly #version = signal(0);
  #asking = 0;

  constructor(
    private readonly api: Api,
    private readonly keep: (named: Named) => void,
    names: readonly Named[],
  ) {
    for (const named of names) this.#names.set(named.account, named);
  }

  /** Changes whenever somebody is called otherwise than before. */
  get version(): ReadonlySignal<number> {
    return this.#version;
  }

  /** The name is empty as long as it is not known. */
  person(account: string): Person {
    const named = this.#names.get(account);
    if (named === undefined || Date.now() - named.asked > FRESH_MS) this.#want(account);
    return { account, name: named?.name ?? "" };
  }

  #want(account: string): void {
    if (this.#wanted.has(account) || Date.now() - (this.#failedAt.get(account) ?? 0) < AGAIN_MS) return;
    this.#wanted.add(account);
    if (this.#asking < AT_ONCE_MAX) void this.#ask();
  }

  async #ask(): Promise<void> {
    this.#asking += 1;
    for (const account of this.#wanted) {
      if (this.#names.has(account) && Date.now() - (this.#names.get(account)?.asked ?? 0) < FRESH_MS) continue;
      await this.#askFor(account);
    }
    this.#asking -= 1;
  }

  async #askFor(account: string): Promise<void> {
    const before = this.#names.get(account)?.name;
    try {
      // Nobody else asks for it meanwhile.
      const asked = Date.now();
      this.#names.set(account, { account, name: before ?? null, asked });
      const named = { account, name: await this.api.nameOf(account), asked };
      this.#names.set(account, named);
      this.keep(named);
      if (named.name !== before) this.#version.value += 1;
    } catch (error) {
      this.#failedAt.set(account, Date.now());
      if (before === undefined) this.#names.delete(account);
      if (!(error instanceof ApiRefused) && !(error instanceof Error)) throw error;
    } finally {
      this.#wanted.delete(account);
    }
  }
}
