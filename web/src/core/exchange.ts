/** What must be asked of the server over HTTP, in one line of work, one thing at a time: keys are uploaded, device lists
 *  asked for, one-time keys claimed, conversation keys shared, requests answered, conversations looked at.
 *
 *  Whoever needs something says so and calls `wake`. What fails for now is done again, later and later. The live path goes
 *  on meanwhile: a message waits only for what it itself needs. What changes the device is done in a turn of its. */

import { ApiRefused, Unreachable, pause } from "./api";
import type { Api } from "./api";
import type { Asking } from "./asking";
import { backoffMs } from "./backoff";
import type { GivenKey, KeyRequest, Machine, SessionRef, ToDevice, Wanted } from "./machine";
import type { Lists } from "./lists";
import { accountOf, userId } from "./matrixIds";
import type { KeyWanted } from "./reading";
import type { Conversation, DeviceList, Parcel } from "./records";
import { dictionary, object, parse, plainObject } from "./shape";
import type { Batch } from "./store";

const QUERY_ACCOUNTS_MAX = 200;
const CLAIM_DEVICES_MAX = 200;
/** A request with more, at two kilobytes each, would be larger than a server takes. */
const PARCEL_DEVICES_MAX = 50;
const UPLOADS_MAX = 8;
/** How many requests for keys wait to be answered; whoever is not heard asks again. */
const REQUESTS_MAX = 1_000;
/** Within how long clients ask what is undelivered, after they were told to. */
const UNDELIVERED_SPREAD_MS = 1_000;

const ENCRYPTED = "m.room.encrypted";
const REQUEST = "m.room_key_request";
const DUMMY = "m.dummy";

/** The mail would be refused for ever: whoever lacks what is in it asks for it. */
const BAD_MAIL = new Set(["bad_frame", "too_large"]);
const NOT_OURS = new Set(["no_such_conversation", "not_a_member"]);

const parcelBody = object({ messages: dictionary(plainObject) });

/** What the exchange needs of the device. */
export interface Side {
  /** Does this in a turn, and what follows from it. */
  turn(work: (batch: Batch) => Promise<void> | void): Promise<void>;
  /** The conversations in which a message waits for its bytes. */
  needing(): readonly string[];
  conversation(id: string): Conversation;
  /** Grows whenever somebody comes into the conversation or goes. */
  generation(id: string): number;
  /** In a turn: the message that is next there gets its bytes, and is sent. */
  encryptNext(conversation: string): Promise<void>;
  /** In a turn: those that wait there can't be sent. */
  giveUp(conversation: string, refused: { code: string; text: string }): void;
  /** In a turn: the devices of accounts are known better now. */
  listsChanged(shrunk: readonly string[]): Promise<void>;
  /** In a turn: the keys of these have come. */
  sessionsCame(sessions: readonly SessionRef[]): Promise<void>;
  /** Asks what a conversation is and who is in it, and takes that in; gives its head. */
  askAbout(conversation: string): Promise<number>;
  /** Asks what is undelivered in a conversation, and takes that in. */
  askUndelivered(conversation: string): Promise<void>;
  /** The server said that it has something up to this seq. */
  want(conversation: string, seq: number): void;
  /** Throws where another tab has the device. */
  checkOwned(): Promise<void>;
  fail(error: unknown): void;
}

interface Address {
  readonly account: string;
  readonly device: string;
}

export class Exchange {
  /** Accounts whose device lists are to be asked for. */
  readonly #doubtful = new Set<string>();
  /** Accounts with whose devices new Olm sessions are to be begun. */
  readonly #wedged = new Set<string>();
  /** Conversations whose members are other ones than this device knows. */
  readonly #stale = new Set<string>();
  /** Conversation → the seq up to which it must be held before it is known who is in it. */
  readonly #awaited = new Map<string, number>();
  readonly #wanted = new Map<string, KeyWanted>();
  readonly #unknown = new Set<string>();
  readonly #unsure = new Set<string>();
  #requests: KeyRequest[] = [];
  readonly #given: GivenKey[];
  readonly #parcels: Map<string, Parcel>;
  #uploadDue = false;
  #published = true;
  #woken: (() => void) | undefined;
  #due = false;
  readonly #ended = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(
    private readonly me: Address & { readonly server: string },
    private readonly api: Api,
    private readonly machine: Machine,
    private readonly lists: Lists,
    private readonly asking: Asking,
    private readonly side: Side,
    parcels: readonly Parcel[],
    given: readonly GivenKey[],
    private identity: unknown,
  ) {
    this.#given = [...given];
    this.#parcels = new Map(parcels.map((each) => [each.transaction, each]));
  }

  // What the device says

  wake(): void {
    this.#due = true;
    this.#woken?.();
  }

  /** Resolves when nothing of it changes OlmMachine any more. What it asks the server is to be aborted before. */
  end(): Promise<void> {
    this.#ended.abort();
    this.wake();
    return this.#running;
  }

  /** One-time keys are short, or, where `published` is false, the server has none of this device's keys. */
  uploadDue(published: boolean): void {
    this.#uploadDue = true;
    this.#published = published;
    this.wake();
  }

  doubt(account: string): void {
    this.lists.doubt(account);
    this.#doubtful.add(account);
    this.wake();
  }

  unwedge(accounts: readonly string[]): void {
    for (const account of accounts) this.#wedged.add(account);
    this.wake();
  }

  refusedAsStale(conversation: string): void {
    this.#stale.add(conversation);
    this.wake();
  }

  /** The server was restored: what was awaited may be beyond its end. */
  serverRestored(): void {
    this.#awaited.clear();
    this.wake();
  }

  wantKey(wanted: KeyWanted): void {
    this.#wanted.set(`${wanted.conversation} ${wanted.session}`, wanted);
    this.wake();
  }

  learn(conversation: string): void {
    this.#unknown.add(conversation);
    this.wake();
  }

  unsure(conversation: string): void {
    this.#unsure.add(conversation);
    this.wake();
  }

  /** In the turn that takes the mail in: what was given is stored with it. */
  takeMail(requests: readonly KeyRequest[], given: readonly GivenKey[], batch: Batch): void {
    this.#requests = [...this.#requests, ...requests].slice(0, REQUESTS_MAX);
    // What nobody has asked for is nobody's to look after: it may name whatever it likes.
    this.#given.push(...given.filter((each) => this.asking.isAwaited(each)).slice(0, REQUESTS_MAX));
    if (given.length > 0) batch.putFact("given", [...this.#given]);
    if (this.#requests.length > 0 || this.#given.length > 0) this.wake();
  }

  // The line of work

  run(): void {
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#ended.signal.aborted; ) {
      if (!this.#due) await new Promise<void>((resolve) => (this.#woken = resolve));
      this.#due = false;
      if (this.#ended.signal.aborted) return;
      try {
        await this.#work();
        failures = 0;
      } catch (error) {
        if (this.#ended.signal.aborted) return;
        if (!isOfServer(error)) return this.side.fail(error);
        failures += 1;
        await pause(backoffMs(failures), this.#ended.signal);
        this.#due = true;
      }
    }
  }

  /** Everything that is to be done now; what fails keeps nothing else from it. Throws the first failure. */
  async #work(): Promise<void> {
    const steps = [
      () => this.#upload(),
      () => this.#sendMail(),
      () => this.#askLists([...this.#doubtful]),
      () => this.#takeGiven(),
      () => this.#renewSessions(),
      () => this.#learnAll(),
      () => this.#prepareAll(),
      () => this.#askForKeys(),
      () => this.#answerRequests(),
      () => this.#askUndelivered(),
    ];
    await allOf(steps);
  }

  async #upload(): Promise<void> {
    if (!this.#uploadDue) return;
    for (let round = 0; round < UPLOADS_MAX; round += 1) {
      const uploads = await this.machine.uploads();
      for (const errand of uploads) {
        const body = parse(plainObject, errand.body, "upload");
        const { device_keys: identity } = body;
        if (identity !== undefined) {
          this.identity = { device_keys: identity };
          await this.side.turn((batch) => batch.putFact("deviceKeys", this.identity));
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

  // Mail

  /** Stores mail, and sends it. */
  async #post(
    contents: readonly (readonly [Address, unknown])[], type = ENCRYPTED, note: (batch: Batch) => void = () => undefined,
  ): Promise<void> {
    const parcels: Parcel[] = [];
    for (const part of parts(contents, PARCEL_DEVICES_MAX)) {
      const messages: Record<string, Record<string, unknown>> = {};
      for (const [to, content] of part) {
        const user = userId(to.account, this.me.server);
        messages[user] = { ...messages[user], [to.device]: content };
      }
      parcels.push({ transaction: crypto.randomUUID(), type, messages });
    }
    await this.side.turn((batch) => {
      note(batch);
      for (const parcel of parcels) {
        this.#parcels.set(parcel.transaction, parcel);
        batch.put("parcels", parcel.transaction, parcel);
      }
    });
    await this.#sendMail();
  }

  async #sendMail(): Promise<void> {
    for (const { transaction, type, messages } of [...this.#parcels.values()]) {
      await this.#deliver(type, transaction, messages);
      this.#parcels.delete(transaction);
      await this.side.turn((batch) => batch.delete("parcels", transaction));
    }
  }

  async #deliver(type: string, transaction: string, messages: Parcel["messages"]): Promise<void> {
    try {
      await this.api.sendToDevice(type, transaction, messages);
    } catch (error) {
      if (!(error instanceof ApiRefused && BAD_MAIL.has(error.code))) throw error;
      console.error("The server takes none of a piece of mail:", error.code);
    }
  }

  /** Mail of OlmMachine's own, which it keeps until it is said to be sent: in parts, the same ones each time. */
  async #deliverOf(errand: ToDevice): Promise<void> {
    const { messages } = parse(parcelBody, errand.body, "mail");
    const devices = [...messages].flatMap(([user, contents]) =>
      Object.entries(contents).map(([device, content]) => [user, device, content] as const),
    );
    for (const [index, part] of parts(devices, PARCEL_DEVICES_MAX).entries()) {
      const named: Record<string, Record<string, unknown>> = {};
      for (const [user, device, content] of part) named[user] = { ...named[user], [device]: content };
      await this.#deliver(errand.event, `${errand.transaction}.${index}`, named);
    }
    await this.machine.done(errand, {});
  }

  // Device lists and sessions

  /** Asks for the lists that are in doubt. One that can't be told now does not hold up the others. */
  async #askLists(accounts: readonly string[]): Promise<void> {
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
    const users = accounts.map((account) => userId(account, this.me.server));
    const versions = accounts.flatMap((account) => {
      const version = this.lists.versionOf(account);
      return version < 0 ? [] : [[userId(account, this.me.server), version] as const];
    });
    const found = await this.api.queryKeys(users, Object.fromEntries(versions));
    const { lists, answer, shrunk, refused } = await this.lists.take(accounts, found, since);
    for (const each of refused) {
      console.warn(`The server names a device that is not to be believed: ${each.account} ${each.device}: ${each.why}`);
    }
    await this.machine.takeDevices(answer);
    for (const account of accounts) if (this.lists.isConfirmed(account)) this.#doubtful.delete(account);
    if (lists.length > 0) await this.side.turn((batch) => this.#storeLists(batch, lists, shrunk));
  }

  async #storeLists(batch: Batch, lists: readonly DeviceList[], shrunk: readonly string[]): Promise<void> {
    for (const list of lists) batch.put("lists", list.account, list);
    await this.side.listsChanged(shrunk);
  }

  /** Begins sessions with those devices of the accounts with which there is none, or a broken one. */
  async #claim(accounts: readonly string[]): Promise<void> {
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
      const account = accountOf(user, this.me.server);
      if (account === undefined || !this.#wedged.has(account)) continue;
      for (const device of Object.keys(devices)) {
        const content = await this.machine.encryptFor(account, device, DUMMY, {});
        if (content !== undefined) dummies.push([{ account, device }, content]);
      }
    }
    if (dummies.length > 0) await this.#post(dummies);
  }

  async #renewSessions(): Promise<void> {
    if (this.#wedged.size === 0) return;
    const wedged = [...this.#wedged];
    await this.#askLists(wedged);
    await this.#claim(wedged);
    for (const account of wedged) this.#wedged.delete(account);
  }

  // Sending

  async #prepareAll(): Promise<void> {
    await allOf(this.side.needing().map((conversation) => () => this.#prepareOrGiveUp(conversation)));
  }

  async #prepareOrGiveUp(conversation: string): Promise<void> {
    try {
      await this.#prepare(conversation);
    } catch (error) {
      if (!(error instanceof ApiRefused && NOT_OURS.has(error.code))) throw error;
      await this.side.turn(() => this.side.giveUp(conversation, { code: error.code, text: error.message }));
    }
  }

  /** Lets the message that is next there be encrypted and sent, when all who are to read it have the key. */
  async #prepare(id: string): Promise<void> {
    if (!(await this.#knowMembers(id))) return;
    const conversation = this.side.conversation(id);
    if (conversation.protection === "none") return this.side.turn(() => this.side.encryptNext(id));
    const generation = this.side.generation(id);
    const members = [...conversation.members.keys()];
    await this.#askLists(members);
    await this.#claim(members);
    await this.side.checkOwned();
    for (const mail of await this.machine.share(id, members)) await this.#deliverOf(mail);
    await this.side.turn(async () => {
      // What has changed meanwhile makes all of it uncertain.
      const same = this.side.generation(id) === generation;
      if (same && members.every((account) => this.lists.isConfirmed(account))) await this.side.encryptNext(id);
      else this.wake();
    });
  }

  /** Whether it is known who is in it. Throws ApiRefused. */
  async #knowMembers(id: string): Promise<boolean> {
    const conversation = this.side.conversation(id);
    if (conversation.cursor < (this.#awaited.get(id) ?? 0)) return false;
    this.#awaited.delete(id);
    if (!this.#stale.has(id) && conversation.known && conversation.members.has(this.me.account)) return true;
    const head = await this.side.askAbout(id);
    if (this.side.conversation(id).cursor < head) {
      // What came and went is on its way; when it is here this line of work is woken.
      this.#awaited.set(id, head);
      this.side.want(id, head);
      return false;
    }
    if (!this.side.conversation(id).member) {
      throw new ApiRefused("not_a_member", "Only members of the conversation may do this.", false, 0);
    }
    this.#stale.delete(id);
    return true;
  }

  // Asking for keys, and answering

  async #askForKeys(): Promise<void> {
    if (this.#wanted.size === 0) return;
    const wanted = [...this.#wanted];
    await this.#askLists([...wanted.map(([, each]) => each.sender), this.me.account].filter((account) => account !== ""));
    for (const [place, each] of wanted) {
      const question = this.asking.ask(each);
      this.#wanted.delete(place);
      if (question === undefined) continue;
      const { conversation: c, session } = each;
      // With the mail that asks: a question that is noted and never sent would be asked again much later.
      const note = (batch: Batch): void => batch.put("asked", [c, session], { c, session, at: question.at });
      await this.#post(question.to.map((to) => [to, question.content] as const), REQUEST, note);
    }
  }

  async #takeGiven(): Promise<void> {
    for (let given = this.#given[0]; given !== undefined; given = this.#given[0]) {
      const { conversation, session } = given;
      const isTaken = await this.#takeKey(given);
      await this.side.turn(async (batch) => {
        this.#given.shift();
        batch.putFact("given", [...this.#given]);
        if (isTaken) await this.side.sessionsCame([{ conversation, session }]);
      });
    }
  }

  /** OlmMachine has it then; taken once more, it is the same. */
  async #takeKey(given: GivenKey): Promise<boolean> {
    try {
      await this.#askLists([given.from.account, given.owner.account]);
    } catch (error) {
      if (!(error instanceof ApiRefused) || error.retry) throw error;
      return false;
    }
    return this.asking.take(given);
  }

  async #answerRequests(): Promise<void> {
    for (let request = this.#requests[0]; request !== undefined; request = this.#requests[0]) {
      try {
        await this.#answer(request);
      } catch (error) {
        if (!(error instanceof ApiRefused) || error.retry) throw error;
      }
      this.#requests.shift();
    }
  }

  async #answer(request: KeyRequest): Promise<void> {
    const { account, device } = request;
    if (account === this.me.account && device === this.me.device) return;
    await this.#askLists([account]);
    if (!this.lists.isActive(account, device)) {
      // Its request may have overtaken the news of it.
      this.lists.doubt(account);
      await this.#askLists([account]);
    }
    if (!this.lists.isActive(account, device)) return;
    const content = await this.asking.answer(request, this.side.conversation(request.conversation));
    if (content === undefined) return;
    await this.#claim([account]);
    const encrypted = await this.machine.encryptFor(account, device, request.answer, content);
    if (encrypted !== undefined) await this.#post([[{ account, device }, encrypted]]);
  }

  // What a push did not say

  async #learnAll(): Promise<void> {
    for (const conversation of [...this.#unknown]) {
      try {
        await this.side.askAbout(conversation);
      } catch (error) {
        // The next welcome says it.
        if (!(error instanceof ApiRefused) || error.retry) throw error;
      }
      this.#unknown.delete(conversation);
    }
  }

  async #askUndelivered(): Promise<void> {
    if (this.#unsure.size === 0) return;
    // In a large group many are told at once to ask.
    await pause(Math.random() * UNDELIVERED_SPREAD_MS, this.#ended.signal);
    for (const conversation of [...this.#unsure]) {
      this.#unsure.delete(conversation);
      try {
        await this.side.askUndelivered(conversation);
      } catch (error) {
        if (!(error instanceof ApiRefused) || error.retry) {
          this.#unsure.add(conversation);
          throw error;
        }
      }
    }
  }
}

function isOfServer(error: unknown): boolean {
  return error instanceof ApiRefused || error instanceof Unreachable;
}

/** Does all of them, one after the other; throws the first failure that the server is at fault for, or any other at once. */
async function allOf(steps: readonly (() => Promise<void>)[]): Promise<void> {
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

function parts<T>(whole: readonly T[], size: number): (readonly T[])[] {
  const found: (readonly T[])[] = [];
  for (let start = 0; start < whole.length; start += size) found.push(whole.slice(start, start + size));
  return found;
}

