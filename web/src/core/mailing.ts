/** Mail to devices: it is stored before it is sent, until the server has it. */

import { ApiRefused } from "./api";
import type { Api } from "./api";
import type { Machine, ToDevice } from "./machine";
import { userId } from "./matrixIds";
import type { Address, Parcel } from "./records";
import { dictionary, object, parse, plainObject } from "./shape";
import { parts } from "./steps";
import type { Batch } from "./store";
import type { Turn } from "./turns";

/** A request with more, at two kilobytes each, would be larger than a server takes. */
const PARCEL_DEVICES_MAX = 50;
const ENCRYPTED = "m.room.encrypted";
/** The mail would be refused for ever: whoever lacks what is in it asks for it. */
const BAD_MAIL = new Set(["bad_frame", "too_large"]);

const parcelBody = object({ messages: dictionary(plainObject) });

export class Mailing {
  readonly #parcels: Map<string, Parcel>;

  /** `parcels`: those that were stored and not sent. */
  constructor(
    private readonly server: string,
    private readonly api: Api,
    private readonly machine: Machine,
    private readonly turn: Turn,
    parcels: readonly Parcel[],
  ) {
    this.#parcels = new Map(parcels.map((each) => [each.transaction, each]));
  }

  /** Stores mail, and sends it. */
  async post(
    contents: readonly (readonly [Address, unknown])[], type = ENCRYPTED, note: (batch: Batch) => void = () => undefined,
  ): Promise<void> {
    const parcels: Parcel[] = [];
    for (const part of parts(contents, PARCEL_DEVICES_MAX)) {
      const messages: Record<string, Record<string, unknown>> = {};
      for (const [to, content] of part) {
        const user = userId(to.account, this.server);
        messages[user] = { ...messages[user], [to.device]: content };
      }
      parcels.push({ transaction: crypto.randomUUID(), type, messages });
    }
    await this.turn((batch) => {
      note(batch);
      for (const parcel of parcels) {
        this.#parcels.set(parcel.transaction, parcel);
        batch.put("parcels", parcel.transaction, parcel);
      }
    });
    await this.send();
  }

  async send(): Promise<void> {
    for (const { transaction, type, messages } of [...this.#parcels.values()]) {
      await this.#deliver(type, transaction, messages);
      this.#parcels.delete(transaction);
      await this.turn((batch) => batch.delete("parcels", transaction));
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
  async deliverOf(errand: ToDevice): Promise<void> {
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
}
