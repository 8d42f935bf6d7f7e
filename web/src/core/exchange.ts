/** What must be asked of the server over HTTP, in one line of work, one thing at a time: keys are uploaded, device lists
 *  asked for, one-time keys claimed, conversation keys shared, requests answered, conversations looked at.
 *
 *  Whoever needs something says so and calls `wake`. What fails for now is done again, later and later. The live path goes
 *  on meanwhile: a message waits only for what it itself needs. What changes the device is done in a turn of its. */

import { ApiRefused, pause } from "./api";
import type { Api } from "./api";
import type { Asking } from "./asking";
import { backoffMs } from "./backoff";
import { KeyRequests } from "./keyRequests";
import type { Lists } from "./lists";
import type { GivenKey, KeyRequest, Machine, SessionRef } from "./machine";
import { Mailing } from "./mailing";
import { OwnKeys } from "./ownKeys";
import { Peers } from "./peers";
import type { Questions } from "./questions";
import type { KeyWanted } from "./reading";
import type { Address, Conversation } from "./records";
import { allOf, isOfServer } from "./steps";
import type { Batch } from "./store";
import type { Stored } from "./stored";
import type { Turn } from "./turns";

const NOT_OURS = new Set(["no_such_conversation", "not_a_member"]);

/** What the exchange needs of the device. */
export interface Side {
  /** Does this in a turn, and what follows from it. */
  readonly turn: Turn;
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
  /** The server said that it has something up to this seq. */
  want(conversation: string, seq: number): void;
  /** Throws where another tab has the device. */
  checkOwned(): Promise<void>;
  fail(error: unknown): void;
}

export interface ExchangeParts {
  readonly me: Address & { readonly server: string };
  readonly api: Api;
  readonly machine: Machine;
  readonly lists: Lists;
  readonly asking: Asking;
  readonly questions: Questions;
}

export class Exchange {
  readonly #ownKeys: OwnKeys;
  readonly #mailing: Mailing;
  readonly #peers: Peers;
  readonly #keys: KeyRequests;
  /** Conversations whose members are other ones than this device knows. */
  readonly #stale = new Set<string>();
  /** Conversation → the seq up to which it must be held before it is known who is in it. */
  readonly #awaited = new Map<string, number>();
  #woken: (() => void) | undefined;
  #due = false;
  readonly #ended = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(
    private readonly parts: ExchangeParts,
    private readonly side: Side,
    stored: Pick<Stored, "parcels" | "given" | "deviceKeys">,
  ) {
    const { me, api, machine, lists, asking } = parts;
    this.#ownKeys = new OwnKeys(api, machine, side.turn, stored.deviceKeys);
    this.#mailing = new Mailing(me.server, api, machine, side.turn, stored.parcels);
    this.#peers = new Peers(me.server, api, machine, lists, this.#mailing, side);
    this.#keys = new KeyRequests(me, machine, lists, asking, this.#mailing, this.#peers, side, stored.given);
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
    this.#ownKeys.uploadDue(published);
    this.wake();
  }

  doubt(account: string): void {
    this.#peers.doubt(account);
    this.wake();
  }

  unwedge(accounts: readonly string[]): void {
    this.#peers.unwedge(accounts);
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
    this.#keys.want(wanted);
    this.wake();
  }

  learn(conversation: string): void {
    this.parts.questions.isUnknown(conversation);
    this.wake();
  }

  unsure(conversation: string): void {
    this.parts.questions.isUnsure(conversation);
    this.wake();
  }

  /** In the turn that takes the mail in: what was given is stored with it. */
  takeMail(requests: readonly KeyRequest[], given: readonly GivenKey[], batch: Batch): void {
    this.#keys.takeMail(requests, given, batch);
    if (requests.length > 0 || given.length > 0) this.wake();
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
      () => this.#ownKeys.upload(),
      () => this.#mailing.send(),
      () => this.#peers.askDoubtful(),
      () => this.#keys.takeGiven(),
      () => this.#peers.renewSessions(),
      () => this.parts.questions.learnAll(),
      () => this.#prepareAll(),
      () => this.#keys.ask(),
      () => this.#keys.answerRequests(),
      () => this.parts.questions.askUndelivered(this.#ended.signal),
    ];
    await allOf(steps);
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
    await this.#peers.ask(members);
    await this.#peers.claim(members);
    await this.side.checkOwned();
    for (const mail of await this.parts.machine.share(id, members)) await this.#mailing.deliverOf(mail);
    await this.side.turn(async () => {
      // What has changed meanwhile makes all of it uncertain.
      const same = this.side.generation(id) === generation;
      if (same && members.every((account) => this.parts.lists.isConfirmed(account))) await this.side.encryptNext(id);
      else this.wake();
    });
  }

  /** Whether it is known who is in it. Throws ApiRefused. */
  async #knowMembers(id: string): Promise<boolean> {
    const conversation = this.side.conversation(id);
    if (conversation.cursor < (this.#awaited.get(id) ?? 0)) return false;
    this.#awaited.delete(id);
    if (!this.#stale.has(id) && conversation.known && conversation.members.has(this.parts.me.account)) return true;
    const head = await this.parts.questions.askAbout(id);
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
}
