/** All texts that people see. Names and titles of others are isolated, so that their direction of writing can't turn the
 *  sentence around them. */

import type { Connection, MessageItem, Phase, Tick } from "../model";
import { formatNumber } from "./format";

const LANGUAGE = "en";
const PLURALS = new Intl.PluralRules(LANGUAGE);
const LISTS = new Intl.ListFormat(LANGUAGE, { type: "conjunction" });

function counted(count: number, one: string, other: string): string {
  return `${formatNumber(count)} ${PLURALS.select(count) === "one" ? one : other}`;
}

/** First strong isolate … pop: what is in between keeps its own direction, and the rest doesn't care. */
function isolated(name: string): string {
  return `\u2068${name}\u2069`;
}

/** Somebody in a sentence; `undefined` is the reader. */
export type Who = string | undefined;

function subject(who: Who): string {
  return who === undefined ? "You" : isolated(who);
}

function objects(people: readonly Who[]): string {
  return LISTS.format(people.map((who) => (who === undefined ? "you" : isolated(who))));
}

type StopReason = Extract<Phase, { kind: "stopped" }>["reason"];

interface Advice {
  readonly title: string;
  readonly todo: string;
}

const connection: Record<Connection, string> = {
  connecting: "Connecting…",
  "catching-up": "Updating…",
  live: "Connected",
  offline: "Offline: messages wait",
};

const tick: Record<Tick, string> = {
  waiting: "Waiting to be sent",
  sent: "Sent",
  delivered: "Delivered",
  read: "Read",
  failed: "Not sent",
};

const stopped: Record<StopReason, Advice> = {
  revoked: {
    title: "This device was signed out",
    todo: "Somebody signed it out from another of your devices. To use Signet here again, clear this site's data in the browser's settings, and register anew.",
  },
  refused: {
    title: "The server doesn't accept this device",
    todo: "The server's data may have been replaced. Ask whoever runs it. To begin anew here, clear this site's data in the browser's settings.",
  },
  replaced: {
    title: "This device is connected from somewhere else",
    todo: "Close the other window or browser profile, then reload this page.",
  },
  broken: {
    title: "Signet has stopped because of a fault of its own",
    todo: "Your messages are safe. Reload the page; if it happens again, tell whoever runs this server what is written below.",
  },
  storage: {
    title: "This browser doesn't let Signet store anything",
    todo: "Leave the private window, allow this site to store data, or free some space. Then reload the page.",
  },
};

/** What the list shows for a message without a text of its own. */
const instead: Record<Exclude<MessageItem["state"], "text">, string> = {
  undecryptable: "Can't be read yet",
  retracted: "Message taken back",
  forged: "Hidden: sender not genuine",
  unreadable: "Damaged message",
  unknown: "Unknown kind of message",
};

export const texts = {
  app: "Signet",

  list: {
    label: "Conversations",
    search: "Search conversations",
    clearSearch: "Clear the search",
    loading: "Loading conversations",
    empty: "No conversations yet",
    emptyHint: "Send your link to somebody, or enter theirs.",
    nothingFound: (query: string) => `Nothing found for ${isolated(query)}`,
    draft: "Draft:",
    you: "You:",
    by: (name: string) => `${name}:`,
    noMessages: "No messages yet",
    /** The last message has nothing that could be seen. */
    withoutText: "Message",
    instead,
    unread: (count: number) => counted(count, "unread message", "unread messages"),
    badge: (count: number) => (count > 999 ? `${formatNumber(999)}+` : formatNumber(count)),
    notEncrypted: "Not encrypted",
    left: "You are no longer in it",
    me: (name: string) => `You are ${isolated(name)}. Show your address`,
  },

  nothingOpen: {
    title: "Your messages, on one page",
    hint: "Choose a conversation, or start one.",
  },

  conversation: {
    label: (title: string) => `Conversation: ${isolated(title)}`,
    back: "Back to the conversations",
    details: "Details",
    messages: "Messages",
    loading: "Loading messages",
    empty: "No messages yet",
    emptyHint: "Write the first one.",
    encrypted: "End-to-end encrypted",
    encryptedHint: "Only the people in this conversation can read it. The server can't.",
    notEncrypted: "Not encrypted",
    notEncryptedHint: "The server can read this conversation.",
    gone: "This conversation isn't here",
    goneHint: "It may belong to another account or device.",
    left: "You are no longer in this group: you can read what you have, but not write.",
    members: (count: number) => counted(count, "member", "members"),
    loadingEarlier: "Loading earlier messages",
    earlierFailed: "Earlier messages couldn't be loaded.",
    retry: "Try again",
    newMessages: "New messages",
    toEnd: "To the newest message",
    toEndWith: (count: number) => `To the newest message, ${counted(count, "new one", "new ones")}`,
    said: (name: string, text: string) => `${isolated(name)}: ${text}`,
    you: "You",
  },

  message: {
    undecryptable: "This message can't be read yet: its key is still on the way.",
    retracted: "This message was taken back.",
    forged: "Hidden: this message isn't from whom it claims to be.",
    unreadable: "This message is damaged and can't be shown.",
    unknown: "This version of Signet can't show this kind of message.",
    showAll: "Show all of it",
    failed: "Not sent.",
    edit: "Edit",
    discard: "Delete",
    failedActions: "This message wasn't sent",
  },

  change: {
    started: (by: Who, group: boolean) => `${subject(by)} started the ${group ? "group" : "conversation"}`,
    added: (by: Who, people: readonly Who[]) => `${subject(by)} added ${objects(people)}`,
    removed: (by: Who, people: readonly Who[]) => `${subject(by)} removed ${objects(people)}`,
    left: (who: Who) => `${subject(who)} left`,
    role: (by: Who, people: readonly Who[]) => `${subject(by)} changed what ${objects(people)} may do`,
    title: (by: Who, title: string) => `${subject(by)} named the group ${isolated(title)}`,
    untitled: (by: Who) => `${subject(by)} changed the name of the group`,
  },

  composer: {
    label: "Message",
    placeholder: "Message",
    send: "Send",
    failed: "That couldn't be sent.",
  },

  connection,
  tick,

  newChat: {
    open: "New chat",
    title: "New chat",
    field: "Address",
    hint: "The link or the id that the other person has given you.",
    submit: "Start chat",
    notAnAddress: "That is no address. It is a link that somebody gave you, or the id at its end.",
    missing: "Enter an address.",
    invited: "Somebody has given you this link to write to them.",
    orGroup: "New group instead",
  },

  newGroup: {
    open: "New group",
    title: "New group",
    name: "Name of the group",
    people: "Members",
    hint: "Enter or paste addresses, one after the other.",
    add: "Add",
    chips: "Members so far",
    remove: (address: string) => `Remove ${isolated(address)}`,
    submit: "Start group",
    nameMissing: "Give the group a name.",
    peopleMissing: "Add at least one member.",
    notAnAddress: (address: string) => `${isolated(address)} is no address.`,
  },

  myAddress: {
    title: "Your address",
    hint: "Whoever has this link can write to you. It is no secret, and nobody can read your messages with it.",
    link: "Your link",
    id: "Your id",
    copyLink: "Copy link",
    copyId: "Copy id",
    copied: "Copied",
    copyFailed: "The browser didn't allow it: the text is selected, copy it from there.",
  },

  details: {
    members: "Members",
    you: "you",
  },

  dialog: { close: "Close", cancel: "Cancel", working: "One moment…" },

  registration: {
    title: "Welcome to Signet",
    lead: (server: string) => `Choose how others see you on ${isolated(server)}.`,
    name: "Your name",
    nameMissing: "Enter a name.",
    invitation: "Invitation code",
    invitationHint: "This server is for people with an invitation. Whoever runs it gives you one.",
    invitationMissing: "Enter the invitation code.",
    submit: "Begin",
    keys: "There is no password. Your keys are made in this browser and stay here, so don't clear this site's data.",
    invited: "You can write to the person whose link you have opened right after this.",
    closedTitle: "This server takes no new accounts",
    closedHint: (server: string) => `Ask whoever runs ${isolated(server)}, or open Signet in the browser in which you have registered.`,
  },

  entering: {
    title: (name: string) => `Log in as ${isolated(name)}?`,
    lead: (name: string) => `This browser becomes one of ${isolated(name)}’s devices, and gets what was said before.`,
    submit: "Log in",
    notNow: "Not now",
    once: "The link works once. Your keys are made in this browser and stay here.",
    wrongTitle: "This link lets nobody in",
    wrongTodo:
      "A log-in link works once, and only until the engine stops that has printed it. For fresh links, stop the engine and start it again: ./signet up --demo",
    wrongGoOn: "Go on without it",
    takenTitle: (name: string) => `You are ${isolated(name)} in this browser`,
    takenTodo: "A browser holds one person. To log in by the link, open it in a private window or in another browser.",
    takenGoOn: (name: string) => `Go on as ${isolated(name)}`,
  },

  elsewhere: {
    title: "Signet is open in another tab",
    hint: "It can be used in one tab at a time, so that no message is encrypted twice with the same key.",
    useHere: "Use it here",
  },

  starting: "Opening Signet",
  stopped,
  reload: "Reload the page",
  today: "Today",
  yesterday: "Yesterday",
  unnamed: "No name",
  /** Anything that has no words of its own. */
  failed: "That didn't work. Try again.",
  windowTitle: (unread: number) => (unread > 0 ? `(${formatNumber(unread)}) Signet` : "Signet"),
} as const;
