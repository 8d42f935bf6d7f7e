/** Whose devices there are. The server names them; what they have signed is checked here, and each is pinned.
 *
 *  A device that is new in an account which is known already must have been let in by one that is known: the link is signed
 *  by it. So the server can't slip a device of its own into an account without anybody noticing. Only the first list of an
 *  account is taken on trust. Known is every device that was linked, also one that has published no keys yet, or was
 *  revoked: it may have let others in. OlmMachine hears only of devices that are believed. */

import type { KeysFound, Link } from "./api";
import { signable, userId } from "./matrixIds";
import { linkPayload, verify } from "./payloads";
import type { DeviceKeys, DeviceList } from "./records";
import { Malformed, dictionary, object, plainObject, text } from "./shape";

/** How long a chain of links is followed. */
const LINKS_MAX = 1_000;

const deviceKeys = object({
  user_id: text(512),
  device_id: text(256),
  keys: dictionary(text(256), 16),
  signatures: dictionary(dictionary(text(256), 16), 16),
});

export interface Refusal {
  readonly account: string;
  readonly device: string;
  readonly why: string;
}

export interface Taken {
  /** The lists that have changed. */
  readonly lists: readonly DeviceList[];
  /** What OlmMachine is to hear: user → device → keys, of all that were asked for. */
  readonly answer: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Accounts from which a device has gone. */
  readonly shrunk: readonly string[];
  readonly refused: readonly Refusal[];
}

export class Lists {
  readonly #lists: Map<string, DeviceList>;
  readonly #confirmed = new Set<string>();
  #moment = 0;
  readonly #doubted = new Map<string, number>();
  #allDoubted = 0;

  constructor(
    lists: readonly DeviceList[],
    private readonly server: string,
  ) {
    this.#lists = new Map(lists.map((each) => [each.account, each]));
  }

  /** Grows with each doubt: what is asked for now is as old as this when it comes. */
  get moment(): number {
    return this.#moment;
  }

  /** Whether the list was asked for on the present connection, and has not been doubted since. */
  isConfirmed(account: string): boolean {
    return this.#confirmed.has(account);
  }

  /** It may have other devices by now. */
  doubt(account: string): void {
    this.#moment += 1;
    this.#doubted.set(account, this.#moment);
    this.#confirmed.delete(account);
  }

  /** The connection is gone: what happens now nobody tells. */
  doubtAll(): void {
    this.#moment += 1;
    this.#allDoubted = this.#moment;
    this.#doubted.clear();
    this.#confirmed.clear();
  }

  /** The server was restored: versions are counted anew. The pins stay. */
  forgetVersions(): DeviceList[] {
    const lists = [...this.#lists.values()].map((each) => ({ ...each, version: -1 }));
    for (const each of lists) this.#lists.set(each.account, each);
    return lists;
  }

  versionOf(account: string): number {
    return this.#lists.get(account)?.version ?? -1;
  }

  /** The Ed25519 key of a device that is known, also of one that was revoked since. */
  keyOf(account: string, device: string): string | undefined {
    return this.#lists.get(account)?.linked.get(device);
  }

  /** The keys that a device has published. */
  pinOf(account: string, device: string): DeviceKeys | undefined {
    return this.#lists.get(account)?.pins.get(device);
  }

  isActive(account: string, device: string): boolean {
    return this.#lists.get(account)?.active.includes(device) ?? false;
  }

  activeOf(account: string): readonly string[] {
    return this.#lists.get(account)?.active ?? [];
  }

  /** The device of an account with this Curve25519 key. */
  deviceOf(account: string, curve25519: string): string | undefined {
    const pins = this.#lists.get(account)?.pins ?? new Map<string, DeviceKeys>();
    return [...pins].find(([, keys]) => keys.curve25519 === curve25519)?.[0];
  }

  /** This device itself, the account's first: nobody has let it in. */
  know(account: string, device: string, keys: DeviceKeys): DeviceList {
    const pinned = this.pin(account, device, keys);
    const list = { ...pinned, linked: new Map([...pinned.linked, [device, keys.ed25519]]) };
    this.#lists.set(account, list);
    return list;
  }

  /** This device itself, where another one has let it in: whom that one knows, the account's first list tells. */
  pin(account: string, device: string, keys: DeviceKeys): DeviceList {
    const known = this.#lists.get(account) ?? emptyList(account);
    const list = { ...known, pins: new Map([...known.pins, [device, keys]]) };
    this.#lists.set(account, list);
    return list;
  }

  /** Takes in the answer to a query of these accounts, asked at the moment `since`. */
  async take(asked: readonly string[], found: KeysFound, since: number): Promise<Taken> {
    const lists: DeviceList[] = [];
    const refused: Refusal[] = [];
    const shrunk: string[] = [];
    const answer: Record<string, Readonly<Record<string, unknown>>> = {};
    for (const account of asked) {
      const user = userId(account, this.server);
      const before = this.#lists.get(account);
      const named = found.device_keys.get(user);
      if (named !== undefined) {
        const taken = await this.#takeList(account, user, named, found);
        refused.push(...taken.refused);
        lists.push(taken.list);
        if (before?.active.some((device) => !taken.list.active.includes(device))) shrunk.push(account);
        this.#lists.set(account, taken.list);
      }
      answer[user] = this.#lists.get(account)?.answer ?? {};
      if ((this.#doubted.get(account) ?? this.#allDoubted) <= since) this.#confirmed.add(account);
    }
    return { lists, answer, shrunk, refused };
  }

  async #takeList(
    account: string,
    user: string,
    named: ReadonlyMap<string, unknown>,
    found: KeysFound,
  ): Promise<{ list: DeviceList; refused: Refusal[] }> {
    const known = this.#lists.get(account) ?? emptyList(account);
    const { vouched, refused } = await vouch(account, found.links.get(user) ?? [], known.linked, this.server);
    const pins = new Map(known.pins);
    const answer: Record<string, unknown> = {};
    for (const [device, keys] of named) {
      if (refused.has(device)) continue;
      try {
        const published = await keysOf(keys, user, device);
        const pin = pins.get(device) ?? published;
        if (pin.ed25519 !== published.ed25519 || pin.curve25519 !== published.curve25519) {
          throw new Malformed("it has other keys than before");
        }
        if (vouched.get(device) !== published.ed25519) throw new Malformed("it is not among the devices that were linked");
        pins.set(device, published);
        answer[device] = keys;
      } catch (error) {
        if (!(error instanceof Malformed)) throw error;
        refused.set(device, error.message);
      }
    }
    for (const device of refused.keys()) if (!known.linked.has(device)) vouched.delete(device);
    const version = found.versions.get(user) ?? -1;
    return {
      list: { account, version, linked: vouched, pins, active: Object.keys(answer), answer },
      refused: [...refused].map(([device, why]) => ({ account, device, why })),
    };
  }
}

function emptyList(account: string): DeviceList {
  return { account, version: -1, linked: new Map(), pins: new Map(), active: [], answer: {} };
}

/** The keys of a device that it has signed itself. Throws Malformed. */
async function keysOf(value: unknown, user: string, device: string): Promise<DeviceKeys> {
  const found = deviceKeys(value, "device keys");
  const ed25519 = found.keys.get(`ed25519:${device}`);
  const curve25519 = found.keys.get(`curve25519:${device}`);
  if (found.user_id !== user || found.device_id !== device || ed25519 === undefined || curve25519 === undefined) {
    throw new Malformed("its keys are those of another device");
  }
  const signature = found.signatures.get(user)?.get(`ed25519:${device}`) ?? "";
  if (!(await verify(ed25519, signable(plainObject(value, "device keys")), signature))) {
    throw new Malformed("its keys are not signed by itself");
  }
  return { ed25519, curve25519 };
}

/** The Ed25519 keys of the devices that are known, or that one of these has let in, or, where none is known, the account's
 *  first; and why others are not believed. */
async function vouch(
  account: string,
  named: readonly Link[],
  known: ReadonlyMap<string, string>,
  server: string,
): Promise<{ vouched: Map<string, string>; refused: Map<string, string> }> {
  const links = new Map(named.map((link) => [link.device, link]));
  const keys = new Map([...named.map((link) => [link.device, link.key] as const), ...known]);
  const vouched = new Map(known);
  const refused = new Map<string, string>();
  for (const [device, link] of links) {
    const why = await doubtOf(account, link, keys, known, links, server);
    const key = keys.get(device);
    if (why === undefined && key !== undefined) vouched.set(device, key);
    else refused.set(device, why ?? "it has no key");
  }
  return { vouched, refused };
}

/** Why a link is not believed; undefined: it is. */
async function doubtOf(
  account: string,
  first: Link,
  keys: ReadonlyMap<string, string>,
  known: ReadonlyMap<string, string>,
  links: ReadonlyMap<string, Link>,
  server: string,
): Promise<string | undefined> {
  let link = first;
  for (let length = 0; length < LINKS_MAX; length += 1) {
    if (known.has(link.device)) return undefined;
    if (link.by === null) return known.size > 0 ? "none of the account's known devices has let it in" : undefined;
    const by = links.get(link.by);
    const key = keys.get(link.by);
    if (by === undefined || key === undefined) return `the device that let it in, ${link.by}, is unknown`;
    const payload = linkPayload({ server, account, device: link.device, key: link.key });
    if (!(await verify(key, payload, link.signature))) return `its link is not signed by ${link.by}`;
    link = by;
  }
  return "its links have no end";
}
