/** The device's store: IndexedDB. What follows from each other is written by one `Batch`, in one transaction that is on
 *  disk before `commit` returns. OlmMachine has a database of its own, which is always written first. */

import { deleteDB, openDB } from "idb";
import type { DBSchema, IDBPDatabase, StoreKey, StoreNames, StoreValue } from "idb";
import type {
  Conversation, DeviceList, Held, Named, Outgoing, Parcel, Position, Profile, Undecrypted,
} from "./records";
import type { EntryLink } from "./entering";
import type { GivenKey } from "./machine";

const VERSION = 1;

interface Facts {
  readonly profile: Profile;
  /** Of a log-in link that was opened and is not used yet. */
  readonly link: EntryLink;
  /** The server's epoch, as the last welcome that was taken in had it. */
  readonly epoch: string;
  /** The number of the last mail that was taken in. */
  readonly mail: number;
  /** Keys that came for this device and are not taken in yet: the mail that brought them doesn't come again. */
  readonly given: readonly GivenKey[];
  /** Who has opened the store last: nobody else may write. */
  readonly owner: string;
  /** The first upload of keys, whose identity keys a restored server may want again. */
  readonly deviceKeys: unknown;
}

interface Schema extends DBSchema {
  facts: { key: string; value: { readonly name: string; readonly value: unknown } };
  conversations: { key: string; value: Conversation };
  items: { key: [string, number]; value: Held };
  outbox: { key: string; value: Outgoing };
  undecrypted: { key: [string, number]; value: Undecrypted };
  positions: { key: [string, number]; value: Position };
  lists: { key: string; value: DeviceList };
  asked: { key: [string, string]; value: { readonly c: string; readonly session: string; readonly at: number } };
  parcels: { key: string; value: Parcel };
  names: { key: string; value: Named };
  /** What a restored server has lost, kept apart. */
  lost: { key: [string, number]; value: Held };
}

type Name = StoreNames<Schema>;
type Write = (stores: (name: Name) => Writable) => void;

/** Of idb's stores only what a batch needs: their own types don't survive a union of all stores. */
interface Writable {
  put(value: unknown): Promise<unknown>;
  delete(key: unknown): Promise<void>;
}

/** What one transaction writes. */
export class Batch {
  readonly #writes = new Map<string, { name: Name; write: Write }>();

  put<N extends Name>(name: N, key: StoreKey<Schema, N>, value: StoreValue<Schema, N>): void {
    this.#writes.set(`${name} ${JSON.stringify(key)}`, { name, write: (stores) => void stores(name).put(value) });
  }

  delete<N extends Name>(name: N, key: StoreKey<Schema, N>): void {
    this.#writes.set(`${name} ${JSON.stringify(key)}`, { name, write: (stores) => void stores(name).delete(key) });
  }

  putFact<F extends keyof Facts>(name: F, value: Facts[F]): void {
    this.put("facts", name, { name, value });
  }

  get isEmpty(): boolean {
    return this.#writes.size === 0;
  }

  get names(): Name[] {
    return [...new Set([...this.#writes.values()].map((each) => each.name))];
  }

  write(stores: (name: Name) => Writable): void {
    for (const each of this.#writes.values()) each.write(stores);
  }
}

/** Another tab has opened the store since: the lock was stolen from this one, which had been too slow, or frozen. */
export class Taken extends Error {}

export class Store {
  readonly #owner = crypto.randomUUID();

  private constructor(private readonly db: IDBPDatabase<Schema>) {}

  /** Whoever opens it owns it from then on: what others have open can't be written by them any more.
   *
   *  `lost`: called where another tab wants to upgrade or delete the database, or the browser has closed it. */
  static async open(name: string, lost: () => void): Promise<Store> {
    const db = await openDB<Schema>(name, VERSION, {
      upgrade(made) {
        made.createObjectStore("facts", { keyPath: "name" });
        made.createObjectStore("conversations", { keyPath: "id" });
        made.createObjectStore("items", { keyPath: ["c", "seq"] });
        made.createObjectStore("outbox", { keyPath: "id" });
        made.createObjectStore("undecrypted", { keyPath: ["c", "seq"] });
        made.createObjectStore("positions", { keyPath: ["session", "index"] });
        made.createObjectStore("lists", { keyPath: "account" });
        made.createObjectStore("asked", { keyPath: ["c", "session"] });
        made.createObjectStore("parcels", { keyPath: "transaction" });
        made.createObjectStore("names", { keyPath: "account" });
        made.createObjectStore("lost", { keyPath: ["c", "seq"] });
      },
      blocking: lost,
      terminated: lost,
    });
    const store = new Store(db);
    await db.put("facts", { name: "owner", value: store.#owner });
    return store;
  }

  static remove(name: string): Promise<void> {
    return deleteDB(name);
  }

  close(): void {
    this.db.close();
  }

  async fact<F extends keyof Facts>(name: F): Promise<Facts[F] | undefined> {
    // Only `putFact` writes them.
    return (await this.db.get("facts", name))?.value as Facts[F] | undefined;
  }

  /** Throws Taken. OlmMachine's database knows of no owners: this is asked before it is changed. */
  async checkOwned(): Promise<void> {
    if ((await this.fact("owner")) !== this.#owner) throw new Taken("another tab has the store");
  }

  /** Throws Taken. */
  async commit(batch: Batch): Promise<void> {
    if (batch.isEmpty) return;
    const names = [...new Set<Name>(["facts", ...batch.names])];
    const transaction = this.db.transaction(names, "readwrite", { durability: "strict" });
    // A failed request fails the transaction, whose promise is the one that is looked at.
    transaction.done.catch(() => undefined);
    if ((await transaction.objectStore("facts").get("owner"))?.value !== this.#owner) {
      transaction.abort();
      throw new Taken("another tab has the store");
    }
    batch.write((name) => quiet(transaction.objectStore(name)));
    await transaction.done;
  }

  all<N extends Name>(name: N): Promise<StoreValue<Schema, N>[]> {
    return this.db.getAll(name);
  }

  get<N extends Name>(name: N, key: StoreKey<Schema, N>): Promise<StoreValue<Schema, N> | undefined> {
    return this.db.get(name, key);
  }

  item(c: string, seq: number): Promise<Held | undefined> {
    return this.db.get("items", [c, seq]);
  }

  /** Those with `after` < seq <= `upto`, in order. */
  items(c: string, after: number, upto = Number.MAX_SAFE_INTEGER): Promise<Held[]> {
    if (after >= upto) return Promise.resolve([]);
    return this.db.getAll("items", IDBKeyRange.bound([c, after], [c, upto], true, false));
  }

  /** Which messages the positions of a session belong to, in order of position. */
  positions(session: string): Promise<Position[]> {
    return this.db.getAll("positions", IDBKeyRange.bound([session, 0], [session, Number.MAX_SAFE_INTEGER]));
  }

  /** The last ones before a seq, in order. */
  async itemsBefore(c: string, before: number, limit: number): Promise<Held[]> {
    const found: Held[] = [];
    const range = IDBKeyRange.bound([c, 0], [c, before], false, true);
    let cursor = await this.db.transaction("items").store.openCursor(range, "prev");
    while (cursor !== null && found.length < limit) {
      found.push(cursor.value);
      cursor = await cursor.continue();
    }
    return found.reverse();
  }
}

function quiet(store: {
  put?: (value: never) => Promise<unknown>;
  delete?: (key: never) => Promise<void>;
}): Writable {
  const { put, delete: remove } = store;
  if (put === undefined || remove === undefined) throw new Error("the transaction is for reading only");
  return {
    put: (value) => put.call(store, value as never).catch(() => undefined),
    delete: (key) => remove.call(store, key as never).catch(() => undefined),
  };
}
