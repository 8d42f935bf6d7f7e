/** The keys of sessions: asks others for those that did not come, takes what is given, answers who asks. `asking` has the
 *  rules; here is what the server is needed for. */

import { ApiRefused } from "./api";
import type { Asking } from "./asking";
import type { Lists } from "./lists";
import type { GivenKey, KeyRequest, Machine, SessionRef } from "./machine";
import type { Mailing } from "./mailing";
import type { Peers } from "./peers";
import type { KeyWanted } from "./reading";
import type { Address, Conversation } from "./records";
import type { Batch } from "./store";
import type { Turn } from "./turns";

/** How many requests for keys wait to be answered; whoever is not heard asks again. */
const REQUESTS_MAX = 1_000;
const REQUEST = "m.room_key_request";

export interface Around {
  readonly turn: Turn;
  conversation(id: string): Conversation;
  /** In a turn: the keys of these have come. */
  sessionsCame(sessions: readonly SessionRef[]): Promise<void>;
}

export class KeyRequests {
  readonly #wanted = new Map<string, KeyWanted>();
  readonly #given: GivenKey[];
  #requests: KeyRequest[] = [];

  /** `given`: keys that were given and stored, and not taken yet. */
  constructor(
    private readonly me: Address,
    private readonly machine: Machine,
    private readonly lists: Lists,
    private readonly asking: Asking,
    private readonly mailing: Mailing,
    private readonly peers: Peers,
    private readonly around: Around,
    given: readonly GivenKey[],
  ) {
    this.#given = [...given];
  }

  want(wanted: KeyWanted): void {
    this.#wanted.set(`${wanted.conversation} ${wanted.session}`, wanted);
  }

  /** In the turn that takes the mail in: what was given is stored with it. */
  takeMail(requests: readonly KeyRequest[], given: readonly GivenKey[], batch: Batch): void {
    this.#requests = [...this.#requests, ...requests].slice(0, REQUESTS_MAX);
    // What nobody has asked for is nobody's to look after: it may name whatever it likes.
    this.#given.push(...given.filter((each) => this.asking.isAwaited(each)).slice(0, REQUESTS_MAX));
    if (given.length > 0) batch.putFact("given", [...this.#given]);
  }

  async ask(): Promise<void> {
    if (this.#wanted.size === 0) return;
    const wanted = [...this.#wanted];
    await this.peers.ask([...wanted.map(([, each]) => each.sender), this.me.account].filter((account) => account !== ""));
    for (const [place, each] of wanted) {
      const question = this.asking.ask(each);
      this.#wanted.delete(place);
      if (question === undefined) continue;
      const { conversation: c, session } = each;
      // With the mail that asks: a question that is noted and never sent would be asked again much later.
      const note = (batch: Batch): void => batch.put("asked", [c, session], { c, session, at: question.at });
      await this.mailing.post(question.to.map((to) => [to, question.content] as const), REQUEST, note);
    }
  }

  async takeGiven(): Promise<void> {
    for (let given = this.#given[0]; given !== undefined; given = this.#given[0]) {
      const { conversation, session } = given;
      const isTaken = await this.#takeKey(given);
      await this.around.turn(async (batch) => {
        this.#given.shift();
        batch.putFact("given", [...this.#given]);
        if (isTaken) await this.around.sessionsCame([{ conversation, session }]);
      });
    }
  }

  /** OlmMachine has it then; taken once more, it is the same. */
  async #takeKey(given: GivenKey): Promise<boolean> {
    try {
      await this.peers.ask([given.from.account, given.owner.account]);
    } catch (error) {
      if (!(error instanceof ApiRefused) || error.retry) throw error;
      return false;
    }
    return this.asking.take(given);
  }

  async answerRequests(): Promise<void> {
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
    await this.peers.ask([account]);
    if (!this.lists.isActive(account, device)) {
      // Its request may have overtaken the news of it.
      this.lists.doubt(account);
      await this.peers.ask([account]);
    }
    if (!this.lists.isActive(account, device)) return;
    const content = await this.asking.answer(request, this.around.conversation(request.conversation));
    if (content === undefined) return;
    await this.peers.claim([account]);
    const encrypted = await this.machine.encryptFor(account, device, request.answer, content);
    if (encrypted !== undefined) await this.mailing.post([[{ account, device }, encrypted]]);
  }
}
