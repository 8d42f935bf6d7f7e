/** What the tests of the core run against: a real engine, a device of the Python client, and a wire that can be cut. */

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, connect } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** The checkout's own; absent where only the web client is worked on. */
export const PYTHON = join(ROOT, ".venv", "bin", "python");
export const hasEngine = existsSync(PYTHON);

export class Engine {
  private constructor(
    readonly url: string,
    /** The secrets of the demo's log-in links. */
    readonly secrets: readonly string[],
    private readonly process: ChildProcess,
    private readonly folder: string,
  ) {}

  /** With the people of `signet up --demo`. */
  static startDemo(): Promise<Engine> {
    return Engine.start(undefined, ["--demo"]);
  }

  static async start(folder = mkdtempSync(join(tmpdir(), "signet-web-")), more: readonly string[] = []): Promise<Engine> {
    const arguments_ = ["-P", "-m", "ops.cli", "up", "--port", "0", "--json", "--data", folder, ...more];
    const started = spawn(PYTHON, arguments_, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
    const line = await new Promise<string>((resolve, reject) => {
      createInterface(started.stdout).once("line", resolve);
      started.once("exit", (code) => reject(new Error(`the engine ended with ${code}`)));
    });
    const { url, links = [] } = JSON.parse(line) as { url: string; links?: { url: string }[] };
    const secrets = links.map((link) => link.url.replace(/.*\//, ""));
    return new Engine(url.replace(/\/$/, ""), secrets, started, folder);
  }

  async stop(): Promise<void> {
    await ended(this.process, () => this.process.kill("SIGTERM"));
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A copy of what it has now, of which another engine can be made. */
  async backUp(): Promise<string> {
    const backup = join(mkdtempSync(join(tmpdir(), "signet-web-")), "backup");
    await run("backup", backup, "--data", this.folder);
    return backup;
  }

  static async restore(backup: string): Promise<Engine> {
    const folder = join(mkdtempSync(join(tmpdir(), "signet-web-")), "data");
    await run("restore", backup, "--data", folder);
    return Engine.start(folder);
  }
}

async function run(...arguments_: string[]): Promise<void> {
  const started = spawn(PYTHON, ["-P", "-m", "ops.cli", ...arguments_], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  const code = await ended(started);
  if (code !== 0) throw new Error(`${arguments_[0]} ended with ${String(code)}`);
}

function ended(process: ChildProcess, end: () => void = () => undefined): Promise<number | null> {
  const ending = new Promise<number | null>((resolve) => process.once("exit", resolve));
  end();
  return ending;
}

/** A device of the Python client; peer.py tells what it can be asked. */
export class Peer {
  readonly #process: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];

  constructor() {
    const started = spawn(PYTHON, [fileURLToPath(new URL("peer.py", import.meta.url))], {
      cwd: ROOT,
      stdio: ["pipe", "pipe", "inherit"],
    });
    createInterface(started.stdout).on("line", (line) => this.#waiting.shift()?.(line));
    this.#process = started;
  }

  async ask<T>(name: string, ...rest: unknown[]): Promise<T> {
    const line = await new Promise<string>((resolve) => {
      this.#waiting.push(resolve);
      this.#process.stdin?.write(`${JSON.stringify([name, ...rest])}\n`);
    });
    const answer = JSON.parse(line) as { answer: T; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.answer;
  }

  async stop(): Promise<void> {
    await ended(this.#process, () => this.#process.stdin?.end());
  }
}

/** Between a client and the engine; while it is cut nothing gets through, and what stood is torn. */
export class Wire {
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  isCut = false;
  /** Called with each piece that the client has sent. */
  onSent: (piece: Buffer) => void = () => undefined;

  private constructor(private target: URL) {
    this.#server = createServer((client) => this.#join(client));
  }

  static async to(url: string): Promise<Wire> {
    const wire = new Wire(new URL(url));
    await new Promise<void>((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
    return wire;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.isCut = false;
  }

  /** From now on it leads to another engine. */
  lead(url: string): void {
    this.target = new URL(url);
  }

  stop(): void {
    this.cut();
    this.#server.close();
  }

  #join(client: Socket): void {
    if (this.isCut) {
      client.destroy();
      return;
    }
    const engine = connect(Number(this.target.port), this.target.hostname);
    for (const [one, other] of [[client, engine], [engine, client]] as const) {
      this.#sockets.add(one);
      one.on("data", (piece) => {
        if (one === client) this.onSent(piece as Buffer);
        if (!this.isCut) other.write(piece);
      });
      one.on("error", () => undefined);
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
  }
}

/** Waits for a condition, not for a time. */
export async function until(reached: () => boolean | Promise<boolean>, what = "it"): Promise<void> {
  const end = Date.now() + 20_000;
  while (!(await reached())) {
    if (Date.now() > end) throw new Error(`${what} did not come about`);
    await new Promise((resolve) => void setTimeout(resolve, 20));
  }
}
