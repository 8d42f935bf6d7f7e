/** One device at work: logs in, stores what comes, acknowledges it, sends the outbox.
 *
 *  All that changes it is done in turns, one after the other. A turn is 1. into order (`receiving`) and decrypted, which
 *  OlmMachine has in its database then, 2. one transaction, 3. what is shown, 4. acknowledgements and messages. Delivered
 *  means stored: step 4 comes after step 2. What needs the network happens between turns (`exchange`). */

import type { Connection } from "../model";
import type { Api } from "./api";
import { ASK_ONCE_MORE_MS, Asking } from "./asking";
import { encodeBody } from "./content";
import { Exchange } from "./exchange";
import type { Side } from "./exchange";
import { Gathered } from "./gathered";
import { Lists } from "./lists";
import { Link, liveUrl } from "./live";
import type { Close } from "./live";
import { Login } from "./login";
import type { Machine, SessionRef } from "./machine";
import { digestOf, encodeHeader } from "./payloads";
import { Questions } from "./questions";
import { Reading } from "./reading";
import { Receiving } from "./receiving";
import type { Conversation, Held, Outgoing, Profile } from "./records";
import { goBack, keptOf } from "./restored";
import { Sending } from "./sending";
import type { Bytes } from "./sending";
import { Taken } from "./store";
import type { Store } from "./store";
import { load } from "./stored";
import type { Stored } from "./stored";
import { Telling } from "./telling";
import { Closed, Turns } from "./turns";
import type { Turn } from "./turns";
import type { Challenge, ClientFrame, Item, Mail, RefusedFrame, ServerFrame, Welcome } from "./wire";

/** How long a message may be without an answer, or the welcome may take, before there is to be another connection. */
const ANSWER_TIMEOUT_MS = 30_000;
/** How long a hole may stay before it is fetched: an `accepted` and the push before it may change places. */
const HOLE_GRACE_MS = 50;
/** After how long a mark that the server refused for now is said again. */
const MARKS_RETRY_MS = 2_000;

export type StopReason = "revoked" | "refused" | "replaced" | "broken" | "storage";

export interface DeviceListener {
  connection(state: Connection): void;
  /** The server has lost what lies beyond these seqs. */
  wentBack(kept: ReadonlyMap<string, number>): void;
  /** What is shown of these has changed, these items of theirs among it. */
  changed(conversations: ReadonlySet<string>, items: readonly Held[]): void;
  stopped(reason: StopReason, text: string): void;
}

export interface DeviceParts {
  readonly base: string;
  readonly profile: Profile;
  readonly store: Store;
  readonly machine: Machine;
  readonly api: Api;
  readonly listener: DeviceListener;
}

/** What has come on one connection and is not taken in yet. */
interface Inbox {
  frames: ServerFrame[];
  isScheduled: boolean;
}

export class Device implements Side {
  readonly #profile: Profile;
  readonly #store: Store;
  readonly #machine: Machine;
  readonly #api: Api;
  readonly #listener: DeviceListener;
  readonly #gathered = new Gathered();
  readonly #lists: Lists;
  readonly #asking: Asking;
  readonly #reading: Reading;
  readonly #receiving: Receiving;
  readonly #sending: Sending;
  readonly #telling: Telling;
  readonly #questions: Questions;
  readonly #exchange: Exchange;
  readonly #login: Login;
  readonly #link: Link;
  readonly #generations = new Map<string, number>();
  readonly #doubted = new Set<string>();
  readonly #turns = new Turns({
    before: () => this.#store.checkOwned(),
    after: () => this.#flush(),
    failed: (error) => this.fail(error),
  });
  #changed = new Set<string>();
  #sessions: SessionRef[] = [];
  #inbox: Inbox = { frames: [], isScheduled: false };
  /** The connection on which this device has said hello. */
  #speaking = 0;
  #isWelcome = false;
  #isLive = false;

  private constructor({ base, profile, store, machine, api, listener }: DeviceParts, stored: Stored) {
    this.#profile = profile;
    this.#store = store;
    this.#machine = machine;
    this.#api = api;
    this.#listener = listener;
    this.#mail = stored.mail;
    this.#lists = new Lists(stored.lists, profile.server);
    const keys = { ed25519: machine.key, curve25519: machine.curve25519 };
    if (profile.registration === "") this.#lists.pin(profile.account, profile.device, keys);
    else this.#lists.know(profile.account, profile.device, keys);
    this.#asking = new Asking(profile, machine, this.#lists, store, stored.asked);
    const wants = {
      wantKey: (wanted: Parameters<Exchange["wantKey"]>[0]) => this.#exchange.wantKey(wanted),
      doubtDevice: (account: string, device: string) => this.#doubtDevice(account, device),
    };
    this.#reading = new Reading(machine, this.#lists, store, this.#gathered, wants, stored.undecrypted);
    const hears = {
      settle: (id: string, item: Parameters<Sending["settle"]>[1]) => this.#sending.settle(id, item),
      membersChanged: (change: { readonly c: string; readonly what: string }) => this.#membersChanged(change),
      learn: (conversation: string) => this.#exchange.learn(conversation),
      unsure: (conversation: string) => this.#exchange.unsure(conversation),
    };
    this.#receiving = new Receiving(profile, store, this.#gathered, this.#reading, hears, stored.conversations);
    this.#telling = new Telling(profile, machine, this.#gathered, this.#reading, (id) => this.#receiving.of(id));
    this.#sending = new Sending(stored.outbox, this.#gathered, {
      errand: () => this.#exchange.wake(),
      refusedAsStale: (conversation) => this.#exchange.refusedAsStale(conversation),
      later: (id, ms) => this.#turns.later(`send ${id}`, ms, () => this.#sending.goOn(id)),
    });
    this.#questions = new Questions(api, store, this.#receiving, this.turn);
    const parts = { me: profile, api, machine, lists: this.#lists, asking: this.#asking, questions: this.#questions };
    this.#exchange = new Exchange(parts, this, stored);
    this.#login = new Login(profile, machine, stored.epoch);
    this.#link = new Link(liveUrl(base), {
      connecting: () => this.#listener.connection("connecting"),
      frame: (frame) => this.#hear(frame),
      lost: () => this.#lost(),
      refused: (close) => this.#refusedFor(close),
      stuck: (sinceMs) => this.#stuck(sinceMs),
    });
  }

  /** The number of the last mail that was taken in. */
  #mail: number;

  static async open(parts: DeviceParts): Promise<Device> {
    return new Device(parts, await load(parts.store));
  }

  /** Goes live, and stays so. */
  start(): void {
    this.#exchange.run();
    this.#link.start();
    this.#turns.later("keys", ASK_ONCE_MORE_MS, () => {
      this.#asking.askOnceMore();
      this.#reading.wantKeys();
    });
  }

  /** Ends its work. What is on its way is finished before this resolves; what was not sent yet stays in the outbox. */
  async close(): Promise<void> {
    this.#turns.end();
    this.#link.stop();
    this.#api.close();
    await this.#exchange.end();
    await this.#turns.over();
  }

  // What is shown

  get conversations(): ReadonlyMap<string, Conversation> {
    return this.#receiving.conversations;
  }

  /** What has no seq yet in a conversation, in order. */
  outbox(conversation: string): readonly Outgoing[] {
    return this.#sending.outbox.of(conversation);
  }

  // What people do

  async post(conversation: string, text: string): Promise<void> {
    await this.turn(() => {
      this.#sending.post({
        id: crypto.randomUUID(),
        conversation,
        order: this.#sending.outbox.nextOrder(),
        clear: { kind: "text", text },
        at: Date.now(),
        header: "",
        body: "",
        signature: "",
      });
    });
  }

  /** Of a message that was refused for good. */
  async discard(conversation: string, id: string): Promise<void> {
    await this.turn(() => {
      this.#sending.discard(id);
      this.#gathered.touched.add(conversation);
    });
  }

  /** Moves the read mark, at most to what is held. */
  async read(id: string, upto: number): Promise<void> {
    await this.turn(() => {
      const conversation = this.#receiving.of(id);
      const mark = Math.min(upto, conversation.cursor);
      if (mark <= conversation.read) return;
      this.#receiving.moveRead(id, mark);
      this.#gathered.reads.add(id);
    });
  }

  /** The network is there again. */
  hurry(): void {
    this.#link.hurry();
  }

  // Turns

  readonly turn: Turn = (work) => this.#turns.turn(() => work(this.#gathered.batch));

  async #flush(): Promise<void> {
    await this.#commit();
    if (this.#sessions.length > 0) {
      // Their messages may have come in this very turn.
      const sessions = this.#sessions;
      this.#sessions = [];
      await this.#reading.retrySessions(sessions);
      await this.#commit();
    }
    for (const conversation of this.#gathered.recount) await this.#receiving.recount(conversation);
    this.#gathered.recount.clear();
    if (this.#isWelcome) await this.#telling.say();
    await this.#commit();
    this.#show();
    this.#send(this.#gathered.takeFrames());
    this.#watch();
  }

  async #commit(): Promise<void> {
    for (const held of this.#gathered.items) this.#receiving.renewLast(held);
    for (const id of this.#gathered.touched) {
      this.#changed.add(id);
      const conversation = this.#receiving.conversations.get(id);
      if (conversation !== undefined) this.#gathered.batch.put("conversations", id, conversation);
    }
    this.#gathered.touched.clear();
    await this.#store.commit(this.#gathered.takeBatch());
    this.#reading.stored();
  }

  #show(): void {
    const [changed, items] = [this.#changed, this.#gathered.takeItems()];
    this.#changed = new Set();
    if (this.#gathered.gone.size > 0) this.#listener.wentBack(this.#gathered.gone);
    this.#gathered.gone = new Map();
    if (changed.size > 0) this.#listener.changed(changed, items);
  }

  #send(frames: readonly ClientFrame[]): void {
    // What was made for a connection that is gone, the next one makes anew.
    if (frames.length > 0 && this.#speaking === this.#link.number) this.#link.send(frames);
  }

  #watch(): void {
    const due = this.#reading.nextOverdue();
    if (due !== undefined) this.#turns.later("late", Math.max(0, due - Date.now()), () => this.#reading.takeOverdue());
    if (this.#receiving.intake.hasHoles) this.#turns.later("holes", HOLE_GRACE_MS, () => this.#fetch());
    if (this.#sending.needing().length > 0) this.#exchange.wake();
  }

  #fetch(): void {
    if (this.#isLive) this.#gathered.frames.push(...this.#receiving.intake.fetches());
  }

  fail(error: unknown): void {
    if (this.#turns.ended || error instanceof Closed) return;
    if (error instanceof Taken) return void this.close();
    console.error("The device has to stop.", error);
    void this.close();
    const isStorage = error instanceof DOMException;
    this.#listener.stopped(isStorage ? "storage" : "broken", error instanceof Error ? error.message : String(error));
  }

  // The connection

  #hear(frame: ServerFrame): void {
    const inbox = this.#inbox;
    inbox.frames.push(frame);
    if (inbox.isScheduled) return;
    inbox.isScheduled = true;
    this.#turns.soon(() => this.#takeAll(inbox));
  }

  #lost(): boolean {
    const wasLive = this.#isLive;
    this.#inbox.frames = [];
    this.#inbox = { frames: [], isScheduled: false };
    this.#speaking = 0;
    this.#isWelcome = this.#isLive = false;
    this.#turns.soon(() => {
      this.#receiving.intake.reset();
      this.#sending.reset();
      this.#lists.doubtAll();
      this.#doubted.clear();
      this.#gathered.acks.clear();
      this.#gathered.reads.clear();
    });
    this.#listener.connection("offline");
    return wasLive;
  }

  #stuck(sinceMs: number): string | undefined {
    if (!this.#isWelcome && sinceMs > ANSWER_TIMEOUT_MS) return "the server did not say welcome in time";
    const waited = Date.now() - this.#sending.outbox.oldest();
    return waited > ANSWER_TIMEOUT_MS ? "a message got no answer in time" : undefined;
  }

  #refusedFor({ number, text }: Close): void {
    const reasons: Readonly<Record<number, StopReason>> = { 4500: "refused", 4502: "revoked", 4503: "replaced" };
    void this.close();
    this.#listener.stopped(reasons[number] ?? "broken", text);
  }

  // What comes in

  /** At most one page with what came before it, so that it is shown before the next one is taken in. */
  async #takeAll(inbox: Inbox): Promise<void> {
    for (let frame = inbox.frames.shift(); frame !== undefined; frame = inbox.frames.shift()) {
      if (frame.t === "mail") await this.#takeMail([frame, ...takeWhileMail(inbox.frames)]);
      else await this.#take(frame);
      if (frame.t === "page" && inbox.frames.length > 0) {
        this.#turns.soon(() => this.#takeAll(inbox));
        return;
      }
    }
    inbox.isScheduled = false;
  }

  async #take(frame: Exclude<ServerFrame, Mail>): Promise<void> {
    switch (frame.t) {
      case "message":
      case "change":
        return this.#receiving.take(frame);
      case "page":
        await this.#receiving.takePage(frame);
        return this.#fetch();
      case "accepted":
        return this.#takeOwn(this.#sending.accepted(frame));
      case "refused":
        return this.#refused(frame);
      case "receipt":
        return this.#receiving.followTicks(frame);
      case "mark":
        return this.#receiving.moveRead(frame.c, frame.read);
      case "challenge":
        return this.#hello(frame);
      case "welcome":
        return this.#welcome(frame);
      case "live":
        return this.#goLive();
      case "keys":
        await this.#machine.hearCounts(frame.left, frame.fallback_used);
        return this.#exchange.uploadDue(frame.published);
      case "devices":
        return frame.accounts.forEach((account) => this.#exchange.doubt(account));
      case "resync":
        // A resume finds everything that the dropped pushes said, also conversations and ticks.
        return this.#link.cut("the server asks for it", true);
      case "pong":
        return undefined;
    }
  }

  async #takeOwn(item: Item | undefined): Promise<void> {
    if (item !== undefined) await this.#receiving.take(item);
  }

  async #takeMail(mails: readonly Mail[]): Promise<void> {
    const fresh = mails.filter((mail) => mail.n > this.#mail);
    const last = fresh.at(-1);
    if (last === undefined) {
      // It comes again where the server has not heard that it was taken in.
      this.#gathered.mail = Math.max(this.#gathered.mail, ...mails.map((mail) => mail.n));
      return;
    }
    const taken = await this.#machine.takeMail(fresh);
    this.#mail = last.n;
    this.#gathered.batch.putFact("mail", last.n);
    this.#gathered.mail = last.n;
    this.#sessions.push(...taken.sessions);
    this.#exchange.takeMail(taken.requests, taken.given, this.#gathered.batch);
    if (taken.wedged.length > 0) this.#exchange.unwedge(taken.wedged);
  }

  #refused(refused: RefusedFrame): void {
    if (this.#receiving.intake.refused(refused.id, refused.retry)) return;
    if (this.#sending.refused(refused)) return;
    if (refused.retry && this.conversations.has(refused.c)) {
      this.#telling.refused(refused.c);
      this.#turns.later("marks", MARKS_RETRY_MS, () => this.#telling.sayRefusedAgain());
      return;
    }
    console.warn(`The server refused a frame: ${refused.code}`);
  }

  // Logging in

  async #hello(challenge: Challenge): Promise<void> {
    const { server } = this.#profile;
    if (challenge.server !== server) {
      this.#refusedFor({ number: 4500, text: `This is another server than ${server}: it is called ${challenge.server}.` });
      return;
    }
    this.#speaking = this.#link.number;
    this.#sending.bodyBytesMax = challenge.body_bytes_max;
    this.#gathered.frames.push(await this.#login.answer(challenge, [...this.conversations.values()]));
  }

  async #welcome(welcome: Welcome): Promise<void> {
    if (this.#login.takeEpoch(this.#gathered.batch)) await this.#goBack(welcome);
    this.#isWelcome = true;
    for (const overview of welcome.conversations) await this.#receiving.lookOver(overview);
    this.#sending.resume();
    this.#exchange.wake();
    this.#listener.connection("catching-up");
  }

  /** The server was restored since the device was here. */
  async #goBack(welcome: Welcome): Promise<void> {
    const again: Omit<Outgoing, "order">[] = [];
    for (const [id, kept] of keptOf(welcome.conversations, this.conversations)) {
      again.push(...(await goBack(this.#receiving.of(id), kept, this.#profile, this.#store, this.#gathered)));
      this.#reading.goBack(id, kept);
    }
    // All is encrypted anew, for those who are in the conversations then; what was lost goes before what was never sent.
    const waiting = this.#sending.outbox.waiting().map(({ message }) => message);
    const messages = [...again, ...waiting].map((message, index) => ({
      ...message, order: index + 1, header: "", body: "", signature: "",
    }));
    for (const message of messages) this.#gathered.batch.put("outbox", message.id, message);
    this.#sending.outbox.replace(messages);
    for (const list of this.#lists.forgetVersions()) this.#gathered.batch.put("lists", list.account, list);
    // Its mail may have smaller numbers now.
    this.#mail = 0;
    this.#gathered.batch.putFact("mail", 0);
    this.#exchange.serverRestored();
  }

  #goLive(): void {
    this.#isLive = true;
    this.#receiving.goLive();
    this.#fetch();
    this.#listener.connection("live");
  }

  // Who is who

  #doubtDevice(account: string, device: string): void {
    const place = `${account} ${device}`;
    // Once a connection: the server may have not told of this one yet, or may never do so.
    if (this.#doubted.has(place)) return;
    this.#doubted.add(place);
    this.#exchange.doubt(account);
  }

  async #membersChanged({ c, what }: { readonly c: string; readonly what: string }): Promise<void> {
    this.#generations.set(c, this.generation(c) + 1);
    if (what === "removed" || what === "left") await this.#machine.endSession(c);
    this.#exchange.wake();
  }

  // What the exchange needs

  checkOwned(): Promise<void> {
    return this.#store.checkOwned();
  }

  needing(): readonly string[] {
    return this.#sending.needing();
  }

  conversation(id: string): Conversation {
    return this.#receiving.of(id);
  }

  generation(id: string): number {
    return this.#generations.get(id) ?? 0;
  }

  encryptNext(conversation: string): Promise<void> {
    return this.#sending.encrypt(conversation, (message) => this.#compose(message));
  }

  async #compose({ id, conversation, clear }: Outgoing): Promise<Bytes> {
    const { protection, cursor } = this.#receiving.of(conversation);
    const body = protection === "none" ? encodeBody(clear) : await this.#machine.encrypt(conversation, clear);
    const header = encodeHeader({
      id,
      c: conversation,
      s: this.#profile.account,
      d: this.#profile.device,
      a: cursor,
      h: await digestOf(body),
      n: true,
    });
    return { header, body, signature: await this.#machine.sign(header) };
  }

  giveUp(conversation: string, refused: { code: string; text: string }): void {
    this.#sending.giveUp(conversation, refused);
  }

  async listsChanged(shrunk: readonly string[]): Promise<void> {
    for (const conversation of this.conversations.values()) {
      // The key is in use no more by who is gone.
      if (shrunk.some((account) => conversation.members.has(account))) await this.#machine.endSession(conversation.id);
    }
    await this.#reading.retryDevices();
  }

  async sessionsCame(sessions: readonly SessionRef[]): Promise<void> {
    await this.#reading.retrySessions(sessions);
  }

  want(conversation: string, seq: number): void {
    this.#turns.soon(() => this.#receiving.intake.want(conversation, seq));
  }

  /** Takes in what a conversation is that was just started. */
  learn(conversation: string): Promise<void> {
    return this.#questions.learn(conversation);
  }
}

function takeWhileMail(frames: ServerFrame[]): Mail[] {
  const mails: Mail[] = [];
  for (let next = frames[0]; next?.t === "mail"; next = frames[0]) {
    mails.push(next);
    frames.shift();
  }
  return mails;
}
