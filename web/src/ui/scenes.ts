/** What the views have to be able to show, to be looked at in gallery.html and photographed by tests/web. */

import type { ChangeItem, Item, MessageItem, Person, Phase, Summary, Tick } from "../model";
import { ME } from "./fake";
import type { FakeConversation, Scene } from "./fake";
import { HOSTILE_NAMES, XSS_PAYLOADS } from "./hostile";

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** A time of day at which nothing of a scene falls on another day than it should. */
const NOON = new Date(new Date().setHours(12, 34, 0, 0)).getTime();

function uuid(number: number): string {
  return `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`;
}

function person(number: number, name: string): Person {
  return { account: uuid(1_000 + number * 7919), name };
}

const BEN = person(1, "Ben Okafor");
const CEM = person(2, "Cem Yıldız");
const DINA = person(3, "Dina Rossi");
const EWA = person(4, "Ewa Nowak");
const FARID = person(5, "فريد حداد");
const GIL = person(6, "גיל לוי");
const HANA = person(7, "田中 花");
const CROWD = [BEN, CEM, DINA, EWA, FARID, GIL, HANA] as const;

interface Said {
  readonly by: Person;
  readonly text?: string;
  readonly at?: number;
  readonly tick?: Tick;
  readonly state?: MessageItem["state"];
  readonly refusal?: string;
}

function message(seq: number, said: Said): MessageItem {
  const mine = said.by.account === ME.account;
  const waits = said.tick === "waiting" || said.tick === "failed";
  return {
    kind: "message",
    key: uuid(seq),
    seq: waits ? 0 : seq,
    author: said.by,
    mine,
    at: said.at ?? NOON,
    state: said.state ?? "text",
    text: said.text ?? "",
    ...(mine ? { tick: said.tick ?? "read" } : {}),
    ...(said.refusal === undefined ? {} : { refusal: said.refusal }),
  };
}

function change(seq: number, at: number, what: ChangeItem["what"], by: Person, people: readonly Person[], title?: string): ChangeItem {
  return { kind: "change", key: uuid(seq), seq, at, what, by, people, ...(title === undefined ? {} : { title }) };
}

interface Conversation {
  readonly id: string;
  readonly kind: Summary["kind"];
  readonly title: string;
  readonly items: readonly Item[];
  readonly members: readonly Person[];
  readonly unread?: number;
  readonly encrypted?: boolean;
  readonly member?: boolean;
}

function conversation(c: Conversation): FakeConversation {
  const last = c.items.findLast((item): item is MessageItem => item.kind === "message");
  const unread = c.unread ?? 0;
  const at = c.items.at(-1)?.at ?? NOON;
  return {
    summary: {
      id: c.id,
      kind: c.kind,
      title: c.title,
      encrypted: c.encrypted ?? true,
      unread,
      at,
      member: c.member ?? true,
      ...(last === undefined
        ? {}
        : { last: { text: last.text, at: last.at, mine: last.mine, author: last.author.name, state: last.state, ...(last.tick === undefined ? {} : { tick: last.tick }) } }),
    },
    items: c.items,
    members: c.members,
    readBefore: c.items.length - unread,
  };
}

const DIRECT_ID = uuid(1);
const GROUP_ID = uuid(2);
const THOUSAND_ID = uuid(3);
const STATES_ID = uuid(4);
const HOSTILE_ID = uuid(5);
const LEFT_ID = uuid(6);
const EMPTY_ID = uuid(7);

const DIRECT = conversation({
  id: DIRECT_ID,
  kind: "direct",
  title: BEN.name,
  members: [ME, BEN],
  items: [
    change(1, NOON - 2 * DAY_MS, "started", ME, [ME, BEN]),
    message(2, { by: ME, text: "Hi Ben! The tickets for Sunday are here 🎉", at: NOON - 2 * DAY_MS }),
    message(3, { by: BEN, text: "Great!", at: NOON - 2 * DAY_MS + MINUTE_MS }),
    message(4, { by: BEN, text: "How do we get there? There is a train at 9:14 and one at 9:44.\n\nThe later one has no change.", at: NOON - 2 * DAY_MS + 2 * MINUTE_MS }),
    message(5, { by: ME, text: "The later one then. Here is the way from the station: https://www.openstreetmap.org/directions?from=59.33,18.05&to=59.32,18.07#map=15/59.3251/18.0711", at: NOON - DAY_MS }),
    message(6, { by: BEN, text: "👍", at: NOON - DAY_MS + MINUTE_MS }),
    message(7, { by: BEN, text: "מה קורה? נתראה ביום ראשון בתחנה", at: NOON - DAY_MS + 2 * MINUTE_MS }),
    message(8, { by: ME, text: "☕ at nine?", at: NOON - 40 * MINUTE_MS }),
    message(9, { by: BEN, text: "At nine. I bring the map, you bring the cake, and whoever is late carries both all the way up to the lake and back.", at: NOON - 38 * MINUTE_MS }),
    message(10, { by: ME, text: "Deal", at: NOON - 37 * MINUTE_MS, tick: "read" }),
    message(11, { by: ME, text: "And don't forget the umbrella", at: NOON - 5 * MINUTE_MS, tick: "delivered" }),
    message(12, { by: ME, text: "It may rain", at: NOON - 4 * MINUTE_MS, tick: "sent" }),
  ],
});

const GROUP = conversation({
  id: GROUP_ID,
  kind: "group",
  title: "Summer by the lake",
  members: [ME, ...CROWD],
  unread: 4,
  items: [
    change(1, NOON - DAY_MS - 90 * MINUTE_MS, "started", BEN, [BEN, ME, CEM]),
    change(2, NOON - DAY_MS - 80 * MINUTE_MS, "added", BEN, [DINA, EWA, FARID]),
    change(3, NOON - DAY_MS - 79 * MINUTE_MS, "title", BEN, [], "Summer by the lake"),
    message(4, { by: BEN, text: "Welcome, everybody!", at: NOON - DAY_MS - 78 * MINUTE_MS }),
    message(5, { by: CEM, text: "Merhaba! Who brings the boat?", at: NOON - DAY_MS - 77 * MINUTE_MS }),
    message(6, { by: CEM, text: "I can only get the small one", at: NOON - DAY_MS - 77 * MINUTE_MS }),
    message(7, { by: ME, text: "The small one is fine. Six people, two trips.", at: NOON - DAY_MS - 70 * MINUTE_MS, tick: "delivered" }),
    message(8, { by: FARID, text: "سأحضر الشاي والتمر، من يحضر الخبز؟", at: NOON - DAY_MS - 60 * MINUTE_MS }),
    change(9, NOON - 50 * MINUTE_MS, "added", ME, [GIL, HANA]),
    message(10, { by: HANA, text: "はじめまして！よろしくお願いします 🙇‍♀️", at: NOON - 49 * MINUTE_MS }),
    message(11, { by: DINA, text: "Ciao Hana!", at: NOON - 48 * MINUTE_MS }),
    change(12, NOON - 47 * MINUTE_MS, "left", EWA, [EWA]),
    change(13, NOON - 46 * MINUTE_MS, "role", BEN, [ME]),
    message(14, { by: GIL, text: "אני מביא את הגיטרה", at: NOON - 30 * MINUTE_MS }),
    message(15, { by: DINA, text: "🎸🔥", at: NOON - 29 * MINUTE_MS }),
    message(16, { by: DINA, text: "I made a list of what we still need, see https://lists.example/lake", at: NOON - 28 * MINUTE_MS }),
    message(17, { by: CEM, text: "Bread, lemons, charcoal", at: NOON - 3 * MINUTE_MS }),
  ],
});

const STATES = conversation({
  id: STATES_ID,
  kind: "group",
  title: "All that can happen to a message",
  members: [ME, BEN, CEM],
  items: [
    change(1, NOON - 60 * MINUTE_MS, "started", ME, [ME, BEN, CEM]),
    message(2, { by: BEN, state: "undecryptable", at: NOON - 50 * MINUTE_MS }),
    message(3, { by: BEN, state: "retracted", at: NOON - 49 * MINUTE_MS }),
    message(4, { by: CEM, state: "forged", at: NOON - 48 * MINUTE_MS }),
    message(5, { by: CEM, state: "unreadable", at: NOON - 47 * MINUTE_MS }),
    message(6, { by: CEM, state: "unknown", at: NOON - 46 * MINUTE_MS }),
    message(7, { by: ME, state: "retracted", at: NOON - 45 * MINUTE_MS, tick: "delivered" }),
    change(8, NOON - 44 * MINUTE_MS, "removed", ME, [CEM]),
    message(9, { by: ME, text: "Everybody has read this", at: NOON - 43 * MINUTE_MS, tick: "read" }),
    message(10, { by: ME, text: "Everybody has got this", at: NOON - 42 * MINUTE_MS, tick: "delivered" }),
    message(11, { by: ME, text: "The server has this", at: NOON - 41 * MINUTE_MS, tick: "sent" }),
    message(12, {
      by: ME,
      text: "This was refused",
      at: NOON - 40 * MINUTE_MS,
      tick: "failed",
      refusal: "This message is longer than the server takes (64 KiB).",
    }),
    message(13, { by: ME, text: "This waits for the connection", at: NOON, tick: "waiting" }),
  ],
});

const SENTENCES = [
  "Good morning!",
  "Has anybody seen the keys of the boat house? They were on the hook by the door yesterday.",
  "Ok",
  "I'll be there in ten minutes",
  "The weather report says sun until four, and then a thunderstorm from the west. We should be back by three, or take the tarpaulin.",
  "😂",
  "See https://weather.example/lake?day=today",
  "Two loaves of bread\nLemons\nCharcoal\nMatches",
  "Thanks!",
  "No problem at all, it was on my way.",
] as const;

function talk(count: number, authors: readonly Person[]): Item[] {
  return Array.from({ length: count }, (_, i) => {
    const by = authors[Math.floor(i / 2 + i / 7) % authors.length] ?? ME;
    const text = `${SENTENCES[(i * 7) % SENTENCES.length] ?? ""} (${i + 1})`;
    return message(i + 1, { by, text, at: NOON - (count - i) * 9 * MINUTE_MS });
  });
}

const THOUSAND = conversation({ id: THOUSAND_ID, kind: "group", title: "A thousand messages", members: [ME, BEN, CEM, DINA], items: talk(1_000, [BEN, ME, CEM, DINA]) });
const UNREAD = conversation({ id: THOUSAND_ID, kind: "group", title: "Long unread", members: [ME, BEN, CEM, DINA], items: talk(1_000, [BEN, CEM, DINA]), unread: 60 });

const LEFT = conversation({
  id: LEFT_ID,
  kind: "group",
  title: "Choir",
  members: [BEN, DINA],
  member: false,
  items: [...talk(6, [BEN, DINA]), change(7, NOON - MINUTE_MS, "removed", BEN, [ME])],
});
const OPEN_FOR_THE_SERVER = conversation({ id: uuid(8), kind: "group", title: "Notice board", members: [ME, BEN, CEM], encrypted: false, items: talk(4, [BEN, CEM]), unread: 1_234 });
const NEW = conversation({ id: EMPTY_ID, kind: "direct", title: DINA.name, members: [ME, DINA], items: [] });

const TOWER = "Z̴̧̢̛͎̗̻͈̹̲͓͙̪̈́̇̐̅̀̑͗̀͛̊͝ͅa̶̡̛̬̭̦̺͙͓͈͊̿̎̇̄̂̓̕̚ļ̴̛̻̘̟̝̺̠̈́̊̓̋̔̉̀̀͘g̴̢̢̛̭̬̳͍̈́̿̅̾̋̚͝o̸̧̢̗͇̝̬̱͐̾̈́͐̒̚̕͠";
const HOSTILE_TEXTS = [
  ...XSS_PAYLOADS,
  "x".repeat(10_000),
  `https://example.org/${"a".repeat(1_500)}`,
  "\u202Egnp.exe\u202C is an invoice, \u2067really\u2069",
  "\u202E".repeat(50) + "turned around",
  `${TOWER} ${TOWER} ${TOWER}`,
  `${"o\u0336\u0335\u0489".repeat(200)}`,
  "https://bank.example@evil.example/login and javascript://example.org/%0aalert(1) and https://ok.example.",
  "\n".repeat(40) + "after forty lines",
  " \t\u00a0\u3000\u200b",
  "𝕬 ﷽ 🏳️‍🌈👨‍👩‍👧‍👦 \u0000\u0007\u001b[31m",
] as const;

const HOSTILE = conversation({
  id: HOSTILE_ID,
  kind: "group",
  title: HOSTILE_NAMES[0] ?? "",
  members: [ME, ...HOSTILE_NAMES.map((name, i) => person(100 + i, name))],
  items: [
    change(1, NOON - 300 * MINUTE_MS, "title", person(100, HOSTILE_NAMES[1] ?? ""), [], HOSTILE_NAMES[2]),
    ...HOSTILE_TEXTS.map((text, i) => message(i + 2, { by: person(100 + (i % HOSTILE_NAMES.length), HOSTILE_NAMES[i % HOSTILE_NAMES.length] ?? ""), text, at: NOON - (200 - i) * MINUTE_MS })),
    message(200, { by: ME, text: "x".repeat(10_000), at: NOON, tick: "failed", refusal: `${"y".repeat(400)} ${XSS_PAYLOADS[0] ?? ""}` }),
  ],
});
const HOSTILE_LIST = [...HOSTILE_NAMES, ...XSS_PAYLOADS].map((name, i) =>
  conversation({ id: uuid(5_000 + i), kind: "group", title: name, members: [], items: [message(1, { by: person(i, name), text: HOSTILE_TEXTS[i] ?? name, at: NOON - i * MINUTE_MS })] }),
);

const STATES_LAST = STATES.items
  .filter((item): item is MessageItem => item.kind === "message" && item.state !== "text")
  .map((last, i) => conversation({ id: uuid(6_000 + i), kind: "group", title: `Ends with: ${last.state}`, members: [ME, BEN, CEM], items: [last], unread: last.mine ? 0 : 1 }));

const USUAL = [GROUP, DIRECT, STATES, LEFT, OPEN_FOR_THE_SERVER, NEW];
const MANY = Array.from({ length: 300 }, (_, i) =>
  conversation({
    id: uuid(10_000 + i),
    kind: i % 3 === 0 ? "group" : "direct",
    title: i % 3 === 0 ? `Group ${i + 1}` : (CROWD[i % CROWD.length]?.name ?? ""),
    members: [],
    unread: i % 5 === 1 ? (i * 37) % 120 : 0,
    items: [message(1, { by: i % 4 === 0 ? ME : (CROWD[i % CROWD.length] ?? BEN), text: SENTENCES[i % SENTENCES.length] ?? "", at: NOON - i * i * MINUTE_MS })],
  }),
);

const REFUSAL = "There is no account with this address. Look at it again, or ask the other person for theirs.";

function stopped(reason: Extract<Phase, { kind: "stopped" }>["reason"], text: string): Scene {
  return { phase: { kind: "stopped", reason, text } };
}

function registering(registration: "open" | "invited" | "closed", refusal?: string): Scene {
  return { phase: { kind: "new", server: "signet.example", registration }, ...(refusal === undefined ? {} : { refusal }) };
}

function entering(state: Extract<Phase, { kind: "entering" }>["state"], name: string, refusal?: string): Scene {
  return { phase: { kind: "entering", state, name }, ...(refusal === undefined ? {} : { refusal }) };
}

/** By name; `at` is the fragment under which it is looked at. */
export const SCENES: Readonly<Record<string, { readonly at: string; readonly scene: Scene }>> = {
  starting: { at: "#/", scene: { phase: { kind: "starting" } } },
  empty: { at: "#/", scene: {} },
  loading: { at: "#/", scene: { loaded: false, connection: "connecting" } },
  list: { at: "#/", scene: { conversations: USUAL } },
  "list-states": { at: "#/", scene: { conversations: STATES_LAST } },
  "long-list": { at: "#/", scene: { conversations: [...USUAL, ...MANY] } },
  direct: { at: `#/c/${DIRECT_ID}`, scene: { conversations: USUAL } },
  group: { at: `#/c/${GROUP_ID}`, scene: { conversations: USUAL } },
  states: { at: `#/c/${STATES_ID}`, scene: { conversations: USUAL } },
  left: { at: `#/c/${LEFT_ID}`, scene: { conversations: USUAL } },
  "not-encrypted": { at: `#/c/${uuid(8)}`, scene: { conversations: USUAL } },
  "new-conversation": { at: `#/c/${EMPTY_ID}`, scene: { conversations: USUAL } },
  "loading-conversation": { at: `#/c/${DIRECT_ID}`, scene: { conversations: USUAL, hangs: true, connection: "catching-up" } },
  "gone-conversation": { at: `#/c/${uuid(99)}`, scene: { conversations: USUAL } },
  thousand: { at: `#/c/${THOUSAND_ID}`, scene: { conversations: [THOUSAND, ...USUAL] } },
  unread: { at: `#/c/${THOUSAND_ID}`, scene: { conversations: [UNREAD, ...USUAL] } },
  "no-earlier": { at: `#/c/${THOUSAND_ID}`, scene: { conversations: [THOUSAND, ...USUAL], refusal: REFUSAL } },
  offline: { at: `#/c/${DIRECT_ID}`, scene: { conversations: USUAL, connection: "offline" } },
  connecting: { at: `#/c/${DIRECT_ID}`, scene: { conversations: USUAL, connection: "connecting" } },
  elsewhere: { at: "#/", scene: { phase: { kind: "elsewhere" }, conversations: USUAL } },
  "stopped-revoked": { at: "#/", scene: stopped("revoked", "") },
  "stopped-refused": { at: "#/", scene: stopped("refused", "No such device.") },
  "stopped-replaced": { at: "#/", scene: stopped("replaced", "") },
  "stopped-broken": { at: "#/", scene: stopped("broken", `Frame of type "page" has no items. ${"x".repeat(300)}`) },
  "stopped-storage": { at: "#/", scene: stopped("storage", "QuotaExceededError") },
  "registration-open": { at: "#/", scene: registering("open") },
  "registration-invited": { at: "#/", scene: registering("invited") },
  "registration-refused": { at: "#/", scene: registering("invited", "This invitation has been used already.") },
  "registration-closed": { at: "#/", scene: registering("closed") },
  "entering-asked": { at: "#/", scene: entering("asked", BEN.name) },
  "entering-refused": { at: "#/", scene: entering("asked", FARID.name, "The server can't be reached: it timed out.") },
  "entering-wrong": { at: "#/", scene: entering("wrong", "") },
  "entering-taken": { at: "#/", scene: entering("taken", ME.name) },
  "entering-hostile": { at: "#/", scene: entering("asked", HOSTILE_NAMES[0] ?? "") },
  refused: { at: "#/", scene: { conversations: USUAL, refusal: REFUSAL } },
  "from-link": { at: `#${BEN.account}`, scene: { conversations: USUAL } },
  hostile: { at: `#/c/${HOSTILE_ID}`, scene: { conversations: [HOSTILE, ...HOSTILE_LIST] } },
};
