/** One live connection after another to the same server: opens it, watches that it is alive, takes frames apart, says how
 *  it ended, and connects again. */

import { backoffMs, failuresAfter } from "./backoff";
import { Malformed } from "./shape";
import { SUBPROTOCOL, decodeFrame } from "./wire";
import type { ClientFrame, ServerFrame } from "./wire";

const CONNECT_TIMEOUT_MS = 10_000;
/** A page can't see the server's own pings, so it sends frames `ping` when nothing was heard for so long. */
const PING_AFTER_MS = 20_000;
/** How long after a ping nothing at all may come before the connection counts as dead. */
const PONG_TIMEOUT_MS = 10_000;
const WATCH_EVERY_MS = 2_500;
/** What a server that is asked too often is left alone for. */
const LIMITED_MS = 20_000;

const ABNORMAL = 1006;
const RATE_LIMITED = 4002;
/** WebSocket's own that blame what the client sent: the same again would end the same way. */
const BLAMES_THE_CLIENT = new Set([1002, 1003, 1007, 1009]);

/** How a connection ended: the server's close code, or 1006 where it broke or this side ended it. */
export interface Close {
  readonly number: number;
  readonly text: string;
}

export function mayReconnect(number: number): boolean {
  return !(number >= 4500 && number <= 4999) && !BLAMES_THE_CLIENT.has(number);
}

export interface Listener {
  /** A connection is being opened. */
  connecting(): void;
  frame(frame: ServerFrame): void;
  /** The connection is gone; whether it had caught up. */
  lost(): boolean;
  /** There will be no other one. */
  refused(close: Close): void;
  /** Why the connection is to be given up, if it is. */
  stuck(sinceMs: number): string | undefined;
}

export class Link {
  /** Which connection it is, counted. */
  number = 0;
  #socket: WebSocket | undefined;
  #began = 0;
  #heardAt = 0;
  #pingedAt = 0;
  #failures = 0;
  #ended = false;
  #atOnce = false;
  #watch: ReturnType<typeof setInterval> | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly url: string,
    private readonly listener: Listener,
  ) {}

  start(): void {
    this.#watch = setInterval(() => this.#look(), WATCH_EVERY_MS);
    this.#connect();
  }

  stop(): void {
    this.#ended = true;
    clearInterval(this.#watch);
    clearTimeout(this.#again);
    this.#drop(1000);
  }

  /** What is sent while there is no connection goes nowhere. */
  send(frames: readonly ClientFrame[]): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    for (const frame of frames) this.#socket.send(JSON.stringify(frame));
  }

  /** Gives the connection up for another one. `atOnce`: nothing is wrong with the server. */
  cut(why: string, atOnce = false): void {
    this.#atOnce = atOnce;
    this.#close({ number: ABNORMAL, text: why });
  }

  /** The network is there again: don't wait. */
  hurry(): void {
    if (this.#socket !== undefined || this.#ended) return;
    clearTimeout(this.#again);
    this.#connect();
  }

  #connect(): void {
    this.number += 1;
    this.#began = Date.now();
    this.#heardAt = this.#began;
    this.#pingedAt = 0;
    this.listener.connecting();
    const socket = new WebSocket(this.url, SUBPROTOCOL);
    this.#socket = socket;
    // A socket that was given up may go on for a while: nobody listens to it any more.
    socket.onmessage = (event) => this.#socket === socket && this.#take(event.data);
    socket.onclose = (event) => this.#socket === socket && this.#close({ number: event.code, text: event.reason });
  }

  #take(data: unknown): void {
    this.#heardAt = Date.now();
    let frame: ServerFrame | undefined;
    try {
      if (typeof data !== "string") throw new Malformed("a frame is no text");
      frame = decodeFrame(data);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      this.cut(`a frame was not of the protocol: ${error.message}`);
      return;
    }
    if (frame !== undefined) this.listener.frame(frame);
  }

  #look(): void {
    if (this.#socket === undefined) return;
    const now = Date.now();
    if (this.#socket.readyState === WebSocket.CONNECTING) {
      if (now - this.#began > CONNECT_TIMEOUT_MS) this.cut("the connection attempt timed out");
      return;
    }
    const why = this.listener.stuck(now - this.#began);
    if (why !== undefined) {
      this.cut(why);
    } else if (this.#pingedAt > this.#heardAt) {
      if (now - this.#pingedAt > PONG_TIMEOUT_MS) this.cut("the server has gone silent");
    } else if (now - this.#heardAt > PING_AFTER_MS) {
      this.#pingedAt = now;
      this.send([{ t: "ping", id: "" }]);
    }
  }

  #close(close: Close): void {
    if (this.#socket === undefined) return;
    this.#drop(1000);
    const wasLive = this.listener.lost();
    if (this.#ended) return;
    if (!mayReconnect(close.number)) {
      this.stop();
      this.listener.refused(close);
      return;
    }
    this.#failures = failuresAfter(this.#failures, { ms: Date.now() - this.#began, wasLive });
    const atOnce = this.#atOnce && this.#failures <= 1;
    this.#atOnce = false;
    const waitMs = close.number === RATE_LIMITED ? LIMITED_MS : atOnce ? 0 : backoffMs(this.#failures);
    this.#again = setTimeout(() => this.#connect(), waitMs);
  }

  #drop(number: number): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close(number);
  }
}

/** Where the WebSocket of a server with this `http:` or `https:` URL is. */
export function liveUrl(base: string): string {
  return `${base.replace(/^http/, "ws").replace(/\/+$/, "")}/v1/live`;
}
