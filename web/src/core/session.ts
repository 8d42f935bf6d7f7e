/** The core as the views know it: opens the store if this tab may have it, registers, and shows what the device holds. */

import { batch, effect, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import { Refused } from "../model";
import type { Connection, Me, Model, Opened, Person, Phase, Summary } from "../model";
import { Api, ApiRefused, Unreachable, pause } from "./api";
import { backoffMs } from "./backoff";
import { Device } from "./device";
import type { StopReason } from "./device";
import type { EntryLink } from "./entering";
import { Ownership } from "./locks";
import type { Locks } from "./locks";
import { Machine } from "./machine";
import { OpenedConversation } from "./openedConversation";
import type { Behind } from "./openedConversation";
import { accountId } from "./payloads";
import { People } from "./people";
import { newConversation } from "./records";
import type { Held, Named, Profile } from "./records";
import { isUuid } from "./shape";
import { Batch, Store } from "./store";
import type { Around } from "./views";
import { summaryOf } from "./views";

export interface SessionOptions {
  /** The server's URL, without a path. */
  readonly base: string;
  /** What databases and lock are called. */
  readonly name?: string;
  readonly locks?: Locks;
  /** The secret of the log-in link that was opened. */
  readonly secret?: string | undefined;
}

/** Everything that stands while this tab has the store. */
interface Holding {
  readonly store: Store;
  readonly api: Api;
  machine?: Machine;
  device?: Device;
  people?: People;
  profile?: Profile;
  /** Stops following names. */
  unfollow?: () => void;
}

export function openSession(options: SessionOptions): Promise<Session> {
  return Session.open(options);
}

export class Session implements Model {
  readonly phase: Signal<Phase> = signal({ kind: "starting" });
  readonly connection: Signal<Connection> = signal("connecting");
  readonly me: Signal<Me | undefined> = signal(undefined);
  readonly conversations: Signal<readonly Summary[]> = signal([]);
  readonly loaded: Signal<boolean> = signal(false);
  readonly #base: string;
  readonly #name: string;
  readonly #ownership: Ownership;
  readonly #opened = new Set<OpenedConversation>();
  readonly #summaries = new Map<string, Summary>();
  #holding: Holding | undefined;
  /** Of a log-in link that was opened just now. */
  #secret: string | undefined;
  /** What is done to open or to let go of the store: one after the other. */
  #moves: Promise<void> = Promise.resolve();

  private constructor({ base, name = "signet", locks = navigator.locks, secret }: SessionOptions) {
    this.#base = base.replace(/\/+$/, "");
    this.#secret = secret;
    this.#name = name;
    this.#ownership = new Ownership(locks, name, {
      waits: () => (this.phase.value = { kind: "elsewhere" }),
      owns: () => this.#move(() => this.#start()),
      lost: () => this.#lose(),
    });
    if (typeof window === "undefined") return;
    const hurry = () => this.#holding?.device?.hurry();
    window.addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
  }

  /** Resolves when it is known what is to be shown first. */
  static async open(options: SessionOptions): Promise<Session> {
    const session = new Session(options);
    await session.#ownership.ask();
    await session.#moves;
    return session;
  }

  /** Lets go of everything; what was not sent yet stays in the outbox. */
  async end(): Promise<void> {
    await this.#move(() => this.#letGo());
    await this.#ownership.end();
  }

  useHere(): void {
    if (this.phase.value.kind !== "elsewhere") return;
    this.phase.value = { kind: "starting" };
    void this.#ownership.take();
  }

  // Opening and letting go

  #move(work: () => Promise<void>): Promise<void> {
    this.#moves = this.#moves.then(work).catch((error: unknown) => this.#stop("storage", error));
    return this.#moves;
  }

  #stop(reason: StopReason, error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    this.phase.value = { kind: "stopped", reason, text };
  }

  async #lose(): Promise<void> {
    await this.#move(() => this.#letGo());
    if (this.phase.value.kind !== "stopped") this.phase.value = { kind: "elsewhere" };
  }

  async #letGo(): Promise<void> {
    const holding = this.#holding;
    this.#holding = undefined;
    holding?.unfollow?.();
    holding?.api.close();
    await holding?.device?.close();
    holding?.machine?.close();
    holding?.store.close();
  }

  async #start(): Promise<void> {
    this.phase.value = { kind: "starting" };
    const store = await Store.open(this.#name, () => void this.#lose());
    const holding: Holding = { store, api: new Api(this.#base) };
    this.#holding = holding;
    // Else the browser may throw the keys away when it is short of room. It may refuse; there is nothing to be done then.
    if (typeof navigator !== "undefined") await navigator.storage?.persist?.().catch(() => false);
    const profile = await store.fact("profile");
    const secret = this.#secret;
    this.#secret = undefined;
    const link = secret === undefined ? await store.fact("link") : { secret };
    if (profile?.registered !== true) {
      if (link === undefined) void this.#offerRegistration(holding);
      else await this.#offerEntry(holding, link);
    } else if (link === undefined) await this.#begin(holding, profile);
    else this.phase.value = { kind: "entering", state: "taken", name: profile.name };
  }

  /** Anew from what is stored. */
  #restart(): void {
    void this.#move(async () => {
      if (this.#holding === undefined) return;
      await this.#letGo();
      await this.#start();
    });
  }

  /** Shows that somebody has to register, when the server has said how. */
  async #offerRegistration(holding: Holding): Promise<void> {
    const index = await this.#patiently(holding, () => holding.api.index());
    if (index === undefined || this.#holding !== holding) return;
    this.phase.value = { kind: "new", server: index.server, registration: index.registration };
  }

  /** Asks as often as it takes, but for what is `final`. Undefined: the store is another tab's meanwhile. */
  async #patiently<T>(
    holding: Holding, ask: () => Promise<T>, final: (error: unknown) => boolean = () => false,
  ): Promise<T | undefined> {
    for (let failures = 0; this.#holding === holding; failures += 1) {
      try {
        return await ask();
      } catch (error) {
        if (final(error) || !(error instanceof ApiRefused || error instanceof Unreachable)) throw error;
        this.connection.value = "offline";
        await pause(backoffMs(failures));
      }
    }
    return undefined;
  }

  // Log-in links

  openLink(secret: string): void {
    this.#secret = secret;
    this.#restart();
  }

  dismissLink(): void {
    void this.#move(async () => {
      const written = new Batch();
      written.delete("facts", "link");
      await this.#holding?.store.commit(written);
    });
    this.#restart();
  }

  /** Stored before anything is asked, so that a reload of the page goes on with it. */
  async #offerEntry(holding: Holding, link: EntryLink): Promise<void> {
    await putLink(holding.store, link);
    void this.#askAboutLink(holding, link).catch((error: unknown) => this.#linkFailed(holding, error));
  }

  async #askAboutLink(holding: Holding, link: EntryLink): Promise<void> {
    const asked = () => this.#patiently(holding, () => holding.api.askAboutLink(link.secret), isOfNoUse);
    const person = link.person ?? (await asked());
    if (person === undefined || this.#holding !== holding) return;
    await putLink(holding.store, { ...link, person });
    this.phase.value = { kind: "entering", state: "asked", name: person.name };
  }

  #linkFailed(holding: Holding, error: unknown): void {
    if (this.#holding !== holding) return;
    if (isOfNoUse(error)) this.phase.value = { kind: "entering", state: "wrong", name: "" };
    else this.#stop("storage", error);
  }

  async enter(): Promise<void> {
    const holding = this.#holding;
    const link = await holding?.store.fact("link");
    if (holding === undefined || link?.person === undefined) throw new Refused("no_link", "There is no link to log in by.");
    try {
      const profile = await this.#prepareEntry(holding, link.person);
      const machine = await this.#machineOf(holding, profile);
      holding.api.speakFor(speaker(profile, machine));
      if ((await holding.api.enter(link.secret)) !== profile.account) throw new Refused("wrong_account", "The link is another person's.");
      const registered = { ...profile, registered: true };
      const written = new Batch();
      written.putFact("profile", registered);
      written.delete("facts", "link");
      await holding.store.commit(written);
      await this.#begin(holding, registered);
    } catch (error) {
      if (!isOfNoUse(error)) throw error;
      this.#linkFailed(holding, error);
    }
  }

  /** Stored before it is used, as for a registration. */
  async #prepareEntry({ store, api }: Holding, { account, name }: Person): Promise<Profile> {
    const before = await store.fact("profile");
    if (before?.account === account) return before;
    const { server } = await api.index();
    const profile = { server, account, device: newDevice(), registration: "", registered: false, name };
    await putProfile(store, profile);
    return profile;
  }

  async register(name: string, invitation: string): Promise<void> {
    const { phase } = this;
    const holding = this.#holding;
    if (phase.value.kind !== "new" || holding === undefined) throw new Refused("not_new", "There is a device already.");
    const profile = await this.#prepare(holding, phase.value.server, name);
    const machine = await this.#machineOf(holding, profile);
    holding.api.speakFor(speaker(profile, machine));
    const account = await holding.api.register({ id: profile.registration, name: profile.name, invitation });
    if (account !== profile.account) {
      throw new Refused("wrong_account", "The server made another account than this device has asked for.");
    }
    const registered = { ...profile, registered: true };
    await putProfile(holding.store, registered);
    await this.#begin(holding, registered);
  }

  /** The ids are stored before they are used: whatever breaks off goes on with the same account. */
  async #prepare({ store }: Holding, server: string, name: string): Promise<Profile> {
    const before = await store.fact("profile");
    const registration = before?.registration || crypto.randomUUID();
    const device = before?.device ?? newDevice();
    const account = await accountId(registration);
    const profile = { server: before?.server ?? server, account, device, registration, registered: false, name };
    await putProfile(store, profile);
    return profile;
  }

  async #begin(holding: Holding, profile: Profile): Promise<void> {
    const { store, api } = holding;
    const machine = await this.#machineOf(holding, profile);
    api.speakFor(speaker(profile, machine));
    const keep = (named: Named) => void this.#keepName(holding, named);
    const people = new People(api, keep, await store.all("names"));
    const device = await Device.open({
      base: this.#base,
      profile,
      store,
      machine,
      api,
      listener: {
        connection: (state) => this.#connection(state),
        wentBack: (kept) => this.#opened.forEach((opened) => opened.goBack(kept.get(opened.id))),
        changed: (conversations, items) => this.#show(conversations, items),
        stopped: (reason, text) => this.#stopped(reason, text),
      },
    });
    // Another tab may have taken it over meanwhile.
    if (this.#holding !== holding) return;
    Object.assign(holding, { device, people, profile });
    holding.unfollow = effect(() => this.#follow(people));
    this.loaded.value = device.conversations.size > 0;
    this.phase.value = { kind: "ready" };
    device.start();
  }

  /** Names have changed, and with them everything that shows some. */
  #follow(people: People): void {
    // Only of this the effect is to hear again.
    void people.version.value;
    queueMicrotask(() => {
      const device = this.#holding?.device;
      if (device !== undefined) this.#show(new Set(device.conversations.keys()), []);
    });
  }

  /** Its database is named after the account: what a browser has left of another one is none of its. */
  async #machineOf(holding: Holding, profile: Profile): Promise<Machine> {
    return (holding.machine ??= await Machine.open(profile, `${this.#name}-${profile.account}`));
  }

  async #keepName(holding: Holding, named: Named): Promise<void> {
    const written = new Batch();
    written.put("names", named.account, named);
    // A name that is not kept is asked for again.
    await holding.store.commit(written).catch(() => undefined);
  }

  #connection(state: Connection): void {
    this.connection.value = state;
    if (state === "live") this.loaded.value = true;
  }

  #stopped(reason: StopReason, text: string): void {
    this.#stop(reason, text);
    void this.#move(() => this.#letGo());
  }

  // What is shown

  #around({ people, profile }: Holding): Around {
    const account = profile?.account ?? "";
    return { account, person: (asked) => people?.person(asked) ?? { account: asked, name: "" } };
  }

  #show(conversations: ReadonlySet<string>, items: readonly Held[]): void {
    const holding = this.#holding;
    const device = holding?.device;
    if (holding?.profile === undefined || device === undefined) return;
    const around = this.#around(holding);
    for (const id of conversations) {
      const conversation = device.conversations.get(id);
      if (conversation?.known) this.#summaries.set(id, summaryOf(conversation, device.outbox(id), around));
    }
    const { account } = holding.profile;
    const name = around.person(account).name || holding.profile.name;
    batch(() => {
      if (this.me.value?.name !== name) {
        const address = `${this.#base}/#${account}`;
        this.me.value = { account, name, device: holding.profile?.device ?? "", address };
      }
      this.conversations.value = [...this.#summaries.values()].sort((one, other) => other.at - one.at);
      for (const opened of this.#opened) {
        if (!conversations.has(opened.id)) continue;
        opened.take(items);
        opened.show();
      }
    });
  }

  open(conversation: string): Opened {
    const holding = this.#holding;
    const device = holding?.device;
    if (holding === undefined || device === undefined) throw new Error("nothing can be opened before it is ready");
    const behind: Behind = {
      around: this.#around(holding),
      store: holding.store,
      conversation: (id) => device.conversations.get(id) ?? newConversation(id),
      outbox: (id) => device.outbox(id),
      read: (id, upto) => device.read(id, upto),
      post: (id, text) => device.post(id, text),
      discard: (id, key) => device.discard(id, key),
      closed: (opened) => this.#opened.delete(opened),
    };
    const opened = new OpenedConversation(conversation, behind);
    this.#opened.add(opened);
    opened.show();
    return opened;
  }

  // Starting conversations

  async startDirect(address: string): Promise<string> {
    return this.#started("direct", [this.#accountIn(address)], null);
  }

  async startGroup(title: string, addresses: readonly string[]): Promise<string> {
    const accounts = new Set(addresses.map((address) => this.#accountIn(address)));
    return this.#started("group", [...accounts], title.trim());
  }

  async #started(kind: "direct" | "group", members: readonly string[], title: string | null): Promise<string> {
    const { api, device } = this.#holding ?? {};
    if (api === undefined || device === undefined) throw new Refused("not_ready", "This tab is not connected.");
    const conversation = await api.start(kind, members, title);
    await device.learn(conversation);
    return conversation;
  }

  #accountIn(address: string): string {
    const account = address.trim().toLowerCase().slice(-36);
    if (!isUuid(account)) throw new Refused("bad_address", "This is no address: it ends with 36 characters like 1b4e28ba-….");
    if (account === this.#holding?.profile?.account) throw new Refused("own_address", "This is your own address.");
    return account;
  }
}

function speaker(profile: Profile, machine: Machine) {
  const { account, device } = profile;
  return { account, device, key: machine.key, sign: (signed: string) => machine.sign(signed) };
}

function newDevice(): string {
  return `web-${crypto.randomUUID().slice(0, 8)}`;
}

/** Whether a server has said so of a log-in link. One that knows no links has no such route. */
function isOfNoUse(error: unknown): boolean {
  return error instanceof ApiRefused && ["not_authenticated", "no_such_route", "bad_frame"].includes(error.code);
}

async function putLink(store: Store, link: EntryLink): Promise<void> {
  const written = new Batch();
  written.putFact("link", link);
  await store.commit(written);
}

async function putProfile(store: Store, profile: Profile): Promise<void> {
  const written = new Batch();
  written.putFact("profile", profile);
  await store.commit(written);
}
