/** This device's public keys, at the server. */

import { ApiRefused } from "./api";
import type { Api } from "./api";
import type { Machine } from "./machine";
import { parse, plainObject } from "./shape";
import type { Turn } from "./turns";

const UPLOADS_MAX = 8;

export class OwnKeys {
  #uploadDue = false;
  #published = true;

  /** `identity`: what OlmMachine has said of the device, once; stored, since a restored server has lost it. */
  constructor(
    private readonly api: Api,
    private readonly machine: Machine,
    private readonly turn: Turn,
    private identity: unknown,
  ) {}

  /** One-time keys are short, or, where `published` is false, the server has none of this device's keys. */
  uploadDue(published: boolean): void {
    this.#uploadDue = true;
    this.#published = published;
  }

  async upload(): Promise<void> {
    if (!this.#uploadDue) return;
    for (let round = 0; round < UPLOADS_MAX; round += 1) {
      const uploads = await this.machine.uploads();
      for (const errand of uploads) {
        const body = parse(plainObject, errand.body, "upload");
        const { device_keys: identity } = body;
        if (identity !== undefined) {
          this.identity = { device_keys: identity };
          await this.turn((batch) => batch.putFact("deviceKeys", this.identity));
        }
        await this.machine.done(errand, { one_time_key_counts: await this.#uploadKeys(body) });
        if (identity !== undefined) this.#published = true;
      }
      if (uploads.length === 0) break;
    }
    // OlmMachine says them once; a server that was restored from before that has lost them.
    if (!this.#published && this.identity !== undefined) await this.api.uploadKeys(this.identity);
    this.#uploadDue = false;
    this.#published = true;
  }

  async #uploadKeys(body: unknown): Promise<Record<string, number>> {
    try {
      return Object.fromEntries(await this.api.uploadKeys(body));
    } catch (error) {
      // Under these ids other keys were published: the store is an old copy. The next ones have other ids.
      if (error instanceof ApiRefused && error.code === "id_taken") return { signed_curve25519: 0 };
      throw error;
    }
  }
}
