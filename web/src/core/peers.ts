/** The devices of others: which there are, as the server tells, and Olm sessions with them. */

import { ApiRefused } from "./api";
import type { Api } from "./api";
import type { Lists } from "./lists";
import type { Machine, Wanted } from "./machine";
import type { Mailing } from "./mailing";
import { accountOf, userId } from "./matrixIds";
import type { Address, DeviceList } from "./records";
import { allOf, parts } from "./steps";
import type { Batch } from "./store";
import type { Turn } from "./turns";

const QUERY_ACCOUNTS_MAX = 200;
const CLAIM_DEVICES_MAX = 200;
const DUMMY = "m.dummy";

export interface Around {
  readonly turn: Turn;
  /** In a turn: the devices of accounts are known better now; fewer are left of these. */
  listsChanged(shrunk: readonly string[]): Promise<void>;
}

export class Peers {
  /** Accounts whose device lists are to be asked for. */
  readonly #doubtful = new Set<string>();
  /** Accounts with whose devices new Olm sessions are to be begun. */
  readonly #wedged = new Set<string>();

  constructor(
    private readonly server: string,
    private readonly api: Api,
    private readonly machine: Machine,
    private readonly lists: Lists,
    private readonly mailing: Mailing,
    private readonly around: Around,
  ) {}

  doubt(account: string): void {
    this.lists.doubt(account);
    this.#doubtful.add(account);
  }

  unwedge(accounts: readonly string[]): void {
    for (const account of accounts) this.#wedged.add(account);
  }

  // Their lists

  askDoubtful(): Promise<void> {
    return this.ask([...this.#doubtful]);
  }

  /** Asks for the lists that are in doubt. One that can't be told now does not hold up the others. */
  async ask(accounts: readonly string[]): Promise<void> {
    const asked = [...new Set(accounts)].filter((account) => !this.lists.isConfirmed(account)).sort();
    for (const account of accounts) if (this.lists.isConfirmed(account)) this.#doubtful.delete(account);
    const steps = parts(asked, QUERY_ACCOUNTS_MAX).map((part) => async () => {
      try {
        await this.#askList(part);
      } catch (error) {
        if (!(error instanceof ApiRefused) || part.length === 1) throw error;
        await allOf(part.map((account) => () => this.#askList([account])));
      }
    });
    await allOf(steps);
  }

  async #askList(accounts: readonly string[]): Promise<void> {
    const since = this.lists.moment;
    const users = accounts.map((account) => userId(account, this.server));
    const versions = accounts.flatMap((account) => {
      const version = this.lists.versionOf(account);
      return version < 0 ? [] : [[userId(account, this.server), version] as const];
    });
    const found = await this.api.queryKeys(users, Object.fromEntries(versions));
    const { lists, answer, shrunk, refused } = await this.lists.take(accounts, found, since);
    for (const each of refused) {
      console.warn(`The server names a device that is not to be believed: ${each.account} ${each.device}: ${each.why}`);
    }
    await this.machine.takeDevices(answer);
    for (const account of accounts) if (this.lists.isConfirmed(account)) this.#doubtful.delete(account);
    if (lists.length > 0) await this.around.turn((batch) => this.#storeLists(batch, lists, shrunk));
  }

  async #storeLists(batch: Batch, lists: readonly DeviceList[], shrunk: readonly string[]): Promise<void> {
    for (const list of lists) batch.put("lists", list.account, list);
    await this.around.listsChanged(shrunk);
  }

  // Sessions

  /** Begins sessions with those devices of the accounts with which there is none, or a broken one. */
  async claim(accounts: readonly string[]): Promise<void> {
    const claim = await this.machine.claim(accounts);
    if (claim === undefined) return;
    const devices = Object.entries(claim.wanted).flatMap(([user, wanted]) =>
      Object.entries(wanted).map(([device, algorithm]) => [user, device, algorithm] as const),
    );
    const claimed: Record<string, Record<string, unknown>> = {};
    for (const part of parts(devices, CLAIM_DEVICES_MAX)) {
      const wanted: Record<string, Record<string, string>> = {};
      for (const [user, device, algorithm] of part) wanted[user] = { ...wanted[user], [device]: algorithm };
      for (const [user, keys] of await this.api.claimKeys(wanted)) {
        claimed[user] = { ...claimed[user], ...Object.fromEntries(keys) };
      }
    }
    await this.machine.done(claim.errand, { one_time_keys: claimed, failures: {} });
    await this.#tellOfNewSessions(claim.wanted);
  }

  /** OlmMachine begins a new session in the place of a broken one, but doesn't tell the other side, which would go on with
   *  the broken one. */
  async #tellOfNewSessions(wanted: Wanted): Promise<void> {
    const dummies: (readonly [Address, unknown])[] = [];
    for (const [user, devices] of Object.entries(wanted)) {
      const account = accountOf(user, this.server);
      if (account === undefined || !this.#wedged.has(account)) continue;
      for (const device of Object.keys(devices)) {
        const content = await this.machine.encryptFor(account, device, DUMMY, {});
        if (content !== undefined) dummies.push([{ account, device }, content]);
      }
    }
    if (dummies.length > 0) await this.mailing.post(dummies);
  }

  async renewSessions(): Promise<void> {
    if (this.#wedged.size === 0) return;
    const wedged = [...this.#wedged];
    await this.ask(wedged);
    await this.claim(wedged);
    for (const account of wedged) this.#wedged.delete(account);
  }
}
