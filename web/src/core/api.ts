/** The HTTP part: registration, conversations and who is in them, names, keys and mail. A request that got no answer, or a
 *  refusal that may be retried, is sent again a few times with the same command id, so that it is done once however often
 *  it arrives. Throws ApiRefused and Unreachable. */

import { Refused } from "../model";
import type { Person } from "../model";
import { backoffMs } from "./backoff";
import { helloPayload, registrationPayload } from "./payloads";
import {
  Malformed, anything, count, dictionary, flag, list, maybe, object, oneOf, optional, parse, text, uuid,
} from "./shape";
import type { Of, Shape } from "./shape";
import { overview, role } from "./wire";

const ATTEMPTS_MAX = 5;
/** Who is told to wait for longer than this is told so. */
const RETRY_AFTER_MAX_MS = 15_000;
const TIMEOUT_MS = 15_000;

/** The server said no. */
export class ApiRefused extends Refused {
  constructor(
    code: string,
    explanation: string,
    readonly retry: boolean,
    readonly retryAfterMs: number,
  ) {
    super(code, explanation);
  }
}

/** There was no answer of a Signet server. */
export class Unreachable extends Refused {
  constructor(why: string) {
    super("unreachable", `The server can't be reached: ${why}`);
  }
}

/** Who speaks, and how it signs. */
export interface Speaker {
  readonly account: string;
  readonly device: string;
  readonly key: string;
  sign(signed: string): Promise<string>;
}

const index = object({ server: text(), registration: optional(oneOf("open", "invited", "closed"), "open") });
const challenge = object({ nonce: text(), server: text() });
const accountChanged = object({ account: uuid });
const accountShown = object({ account: uuid, name: maybe(text()) });
const personShown = object({ account: uuid, name: text() });
const token = object({ token: text() });
const changed = object({ conversation: uuid, seq: count });
const conversationShown = object({ overview, members: maybe(dictionary(role)) });
const undelivered = object({ seqs: list(count), before: count });
const keysUploaded = object({ one_time_key_counts: dictionary(count) });
const keysClaimed = object({ one_time_keys: dictionary(dictionary(anything)) });
const toDeviceTaken = object({ refused: optional(anything, undefined) });
const link = object({ device: text(256), key: text(256), active: flag, by: maybe(text(256)), signature: text(256) });
const keysFound = object({
  device_keys: dictionary(dictionary(anything)),
  versions: optional(dictionary(count), new Map<string, number>()),
  links: optional(dictionary(list(link)), new Map<string, readonly Link[]>()),
});
const statement = object({
  account: uuid,
  device: text(256),
  delivered: count,
  read: count,
  undecryptable: list(count),
  repaired: list(count),
  signature: text(256),
});
const statements = object({ statements: list(statement) });
const problem = object({ code: text(), text: text(), retry: flag, retry_after_ms: optional(count, 0) });

/** How a device came into its account. */
export type Link = Of<typeof link>;
export type KeysFound = Of<typeof keysFound>;
export type Statement = Of<typeof statement>;
export type ConversationShown = Of<typeof conversationShown>;
export type Index = Of<typeof index>;

interface Request {
  readonly method: "GET" | "POST" | "PUT";
  readonly path: string;
  readonly content?: unknown;
  /** False: it is for anybody. */
  readonly token?: boolean;
}

export class Api {
  readonly #base: string;
  readonly #ended = new AbortController();
  #speaker: Speaker | undefined;
  #token = "";

  /** `base`: the server's URL, without a path. */
  constructor(base: string) {
    this.#base = `${base.replace(/\/+$/, "")}/v1`;
  }

  /** From now on requests are made in the name of this device. */
  speakFor(speaker: Speaker): void {
    this.#speaker = speaker;
  }

  close(): void {
    this.#ended.abort();
  }

  index(): Promise<Index> {
    return this.#ask(index, { method: "GET", path: "/", token: false });
  }

  /** Makes the account whose id comes of this command id, and gives the account's id. */
  async register(on: { id: string; name: string; invitation: string }): Promise<string> {
    const speaker = this.#speaking();
    const { nonce, server } = await this.#challenge();
    const { id } = on;
    const { device, key } = speaker;
    const signature = await speaker.sign(registrationPayload({ nonce, server, id, device, key }));
    const invitation = on.invitation === "" ? null : on.invitation;
    const content = { id, nonce, name: on.name, device, key, signature, invitation, named: "id" };
    return (await this.#ask(accountChanged, { method: "POST", path: "/accounts", content, token: false })).account;
  }

  /** Whom a log-in link lets in. */
  askAboutLink(secret: string): Promise<Person> {
    return this.#ask(personShown, { method: "POST", path: "/demo/links", content: { secret }, token: false });
  }

  /** Lets this device into the account that the link is for; said again by the same device it is as good. */
  async enter(secret: string): Promise<string> {
    const { device, key } = this.#speaking();
    const content = { secret, device, key };
    return (await this.#ask(accountChanged, { method: "POST", path: "/demo/devices", content, token: false })).account;
  }

  /** Null: it was erased. */
  async nameOf(account: string): Promise<string | null> {
    return (await this.#ask(accountShown, { method: "GET", path: `/accounts/${encodeURIComponent(account)}` })).name;
  }

  conversation(conversation: string): Promise<ConversationShown> {
    return this.#ask(conversationShown, { method: "GET", path: `/conversations/${conversation}` });
  }

  /** Gives the conversation's id. */
  async start(kind: "direct" | "group", members: readonly string[], title: string | null): Promise<string> {
    const content = { id: crypto.randomUUID(), kind, members, title };
    return (await this.#ask(changed, { method: "POST", path: "/conversations", content })).conversation;
  }

  /** All seqs that some other member could not decrypt. */
  async undelivered(conversation: string): Promise<number[]> {
    const path = `/conversations/${conversation}/undelivered`;
    const seqs: number[] = [];
    let before = 0;
    do {
      const page = await this.#ask(undelivered, { method: "GET", path: before === 0 ? path : `${path}?before=${before}` });
      seqs.push(...page.seqs);
      before = page.before;
    } while (before !== 0);
    return seqs;
  }

  /** What the members' devices have signed of how far they have come. */
  async statements(conversation: string): Promise<readonly Statement[]> {
    return (await this.#ask(statements, { method: "GET", path: `/conversations/${conversation}/statements` })).statements;
  }

  /** The body as OlmMachine made it; gives how many one-time keys the server has then. */
  async uploadKeys(body: unknown): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#ask(keysUploaded, { method: "POST", path: "/keys/upload", content: body });
    return answer.one_time_key_counts;
  }

  /** The devices of these users, but for lists that still have the version named here. */
  queryKeys(users: readonly string[], versions: Readonly<Record<string, number>>): Promise<KeysFound> {
    const content = { device_keys: Object.fromEntries(users.map((user) => [user, []])), versions };
    return this.#ask(keysFound, { method: "POST", path: "/keys/query", content });
  }

  /** User → device → algorithm. */
  async claimKeys(
    wanted: Readonly<Record<string, Readonly<Record<string, string>>>>,
  ): Promise<ReadonlyMap<string, ReadonlyMap<string, unknown>>> {
    const content = { one_time_keys: wanted, id: crypto.randomUUID() };
    return (await this.#ask(keysClaimed, { method: "POST", path: "/keys/claim", content })).one_time_keys;
  }

  /** With the same type and transaction it arrives once. */
  async sendToDevice(type: string, transaction: string, messages: unknown): Promise<void> {
    const path = `/sendToDevice/${encodeURIComponent(type)}/${encodeURIComponent(transaction)}`;
    await this.#ask(toDeviceTaken, { method: "PUT", path, content: { messages } });
  }

  #challenge(): Promise<Of<typeof challenge>> {
    return this.#ask(challenge, { method: "GET", path: "/challenge", token: false });
  }

  async #logIn(): Promise<string> {
    const speaker = this.#speaking();
    const { account, device } = speaker;
    const { nonce, server } = await this.#challenge();
    const signature = await speaker.sign(helloPayload({ nonce, server, account, device }));
    const content = { nonce, account, device, signature };
    return (await this.#ask(token, { method: "POST", path: "/token", content, token: false })).token;
  }

  #speaking(): Speaker {
    if (this.#speaker === undefined) throw new Error("nobody speaks yet");
    return this.#speaker;
  }

  async #ask<T>(answer: Shape<T>, request: Request): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const hadToken = this.#token !== "";
      try {
        return await this.#request(answer, request);
      } catch (error) {
        if (!(error instanceof ApiRefused || error instanceof Unreachable)) throw error;
        let waitMs = backoffMs(attempt - 1);
        if (error instanceof ApiRefused) {
          // A server that was started anew, perhaps since the last attempt, knows neither token nor nonce.
          const stale = request.token !== false && error.code === "not_authenticated";
          if (stale) this.#token = "";
          if (stale && hadToken) waitMs = 0;
          else if (!(stale || error.retry) || error.retryAfterMs > RETRY_AFTER_MAX_MS) throw error;
          waitMs += error.retryAfterMs;
        }
        if (attempt >= ATTEMPTS_MAX || this.#ended.signal.aborted) throw error;
        await pause(waitMs, this.#ended.signal);
      }
    }
  }

  async #request<T>(answer: Shape<T>, request: Request): Promise<T> {
    const headers: Record<string, string> = {};
    if (request.token !== false) {
      if (this.#token === "") this.#token = await this.#logIn();
      headers["authorization"] = `Bearer ${this.#token}`;
    }
    if (request.content !== undefined) headers["content-type"] = "application/json";
    let status: number;
    let body: string;
    try {
      const response = await fetch(this.#base + request.path, {
        method: request.method,
        headers,
        ...(request.content === undefined ? {} : { body: JSON.stringify(request.content) }),
        signal: AbortSignal.any([this.#ended.signal, AbortSignal.timeout(TIMEOUT_MS)]),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
      status = response.status;
      body = await response.text();
    } catch (error) {
      throw new Unreachable(error instanceof Error ? error.message : String(error));
    }
    return read(answer, status, body);
  }
}

function read<T>(answer: Shape<T>, status: number, body: string): T {
  try {
    if (status >= 200 && status < 300) return parse(answer, body, "answer");
    const why = parse(problem, body, "refusal");
    throw new ApiRefused(why.code, why.text, why.retry, why.retry_after_ms);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new Unreachable(`the answer (${status}) is none of a Signet server`);
  }
}

/** Ends at once when it is aborted. */
export function pause(ms: number, aborted?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      aborted?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    aborted?.addEventListener("abort", end);
    if (aborted?.aborted === true) end();
  });
}

