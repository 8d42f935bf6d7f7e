/** The left side: who one is, the search, and the conversations, the latest first. */

import { useComputed, useSignal } from "@preact/signals";
import type { ReadonlySignal } from "@preact/signals";
import type { VNode } from "preact";
import { useRef } from "preact/hooks";
import type { Model, Preview, Summary } from "../model";
import { now } from "./clock";
import { ConnectionLine } from "./connectionLine";
import { draftOf } from "./drafts";
import { cleanName, formatFull, formatListTime, formatMachine } from "./format";
import { CloseIcon, NewChatIcon, NewGroupIcon, OpenLockIcon, SearchIcon } from "./icons";
import { memo } from "./memo";
import { MyLink } from "./myAddress";
import { Avatar, displayName, Name } from "./people";
import { conversationHref } from "./route";
import { texts } from "./texts";
import { TickMark } from "./ticks";

/** A preview is one line: more of a text than this is never seen. */
const PREVIEW_CHARS = 240;
const SKELETONS = [0, 1, 2, 3, 4, 5, 6];

interface Props {
  readonly model: Model;
  readonly current: string | undefined;
  readonly onOpen: (conversation: string) => void;
  readonly onNewChat: () => void;
  readonly onNewGroup: () => void;
  readonly onMe: () => void;
}

export function ChatList(props: Props): VNode {
  const { model } = props;
  const query = useSignal("");
  const shown = useComputed(() => matching(model.conversations.value, query.value));
  return (
    <nav class="sidebar" aria-label={texts.list.label} data-pane>
      <Head {...props} />
      <Search query={query.value} onQuery={(text) => (query.value = text)} />
      <Body {...props} shown={shown} query={query.value} />
    </nav>
  );
}

function Head(props: Props): VNode {
  const me = props.model.me.value;
  return (
    <header class="sidebar-head">
      {me !== undefined && (
        <button type="button" class="me-button" aria-label={texts.list.me(displayName(me.name))} title={texts.myAddress.title} onClick={props.onMe}>
          <Avatar id={me.account} name={me.name} size="small" />
        </button>
      )}
      <div class="sidebar-titles">
        <h1>{texts.app}</h1>
        <ConnectionLine connection={props.model.connection.value}>{me !== undefined && <Name name={me.name} />}</ConnectionLine>
      </div>
      <button type="button" class="icon-button" aria-label={texts.newGroup.open} title={texts.newGroup.open} onClick={props.onNewGroup}>
        <NewGroupIcon />
      </button>
      <button type="button" class="icon-button" aria-label={texts.newChat.open} title={texts.newChat.open} onClick={props.onNewChat}>
        <NewChatIcon />
      </button>
    </header>
  );
}

function Search(props: { readonly query: string; readonly onQuery: (text: string) => void }): VNode {
  const field = useRef<HTMLInputElement>(null);
  const clear = (): void => {
    props.onQuery("");
    field.current?.focus();
  };
  return (
    <search class="search">
      <SearchIcon />
      <input
        ref={field}
        type="text"
        enterkeyhint="search"
        value={props.query}
        placeholder={texts.list.search}
        aria-label={texts.list.search}
        autocomplete="off"
        dir="auto"
        onInput={(event) => props.onQuery(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape" && props.query !== "") clear();
          if (event.key === "ArrowDown") moveFocus(event, event.currentTarget.closest(".sidebar"));
        }}
      />
      {props.query !== "" && (
        <button type="button" class="icon-button" aria-label={texts.list.clearSearch} title={texts.list.clearSearch} onClick={clear}>
          <CloseIcon />
        </button>
      )}
    </search>
  );
}

/** Sorted here, since a title matches before a text does. */
function matching(conversations: readonly Summary[], query: string): readonly Summary[] {
  const wanted = folded(query.trim());
  const latest = [...conversations].sort((one, other) => other.at - one.at);
  if (wanted === "") return latest;
  const byTitle = latest.filter((summary) => folded(summary.title).includes(wanted));
  const byText = latest.filter((summary) => !byTitle.includes(summary) && folded(summary.last?.text ?? "").includes(wanted));
  return [...byTitle, ...byText];
}

/** Case and accents don't matter when one searches. */
function folded(text: string): string {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLocaleLowerCase();
}

interface BodyProps extends Props {
  readonly shown: ReadonlySignal<readonly Summary[]>;
  readonly query: string;
}

function Body(props: BodyProps): VNode {
  const { model } = props;
  const shown = props.shown.value;
  if (!model.loaded.value) return <Skeleton />;
  if (model.conversations.value.length === 0) return <Empty {...props} />;
  if (shown.length === 0) {
    return (
      <p class="list-note" role="status">
        {texts.list.nothingFound(cleanName(props.query))}
      </p>
    );
  }
  // One stop for the Tab key: the conversation that is open, else the first. Arrows go on from there.
  const stop = shown.some((summary) => summary.id === props.current) ? props.current : shown[0]?.id;
  const today = now.value;
  return (
    <ul class="chats" onKeyDown={(event) => moveFocus(event, event.currentTarget)}>
      {shown.map((summary) => (
        <Chat
          key={summary.id}
          summary={summary}
          current={summary.id === props.current}
          stop={summary.id === stop}
          draft={summary.id === props.current ? "" : draftOf(summary.id)}
          today={today}
          onOpen={props.onOpen}
        />
      ))}
    </ul>
  );
}

const STEPS: Readonly<Record<string, (at: number, count: number) => number>> = {
  ArrowDown: (at, count) => Math.min(at + 1, count - 1),
  ArrowUp: (at) => Math.max(at - 1, 0),
  Home: () => 0,
  End: (_, count) => count - 1,
};

function moveFocus(event: KeyboardEvent, list: Element | null): void {
  const step = STEPS[event.key];
  if (step === undefined || list === null) return;
  const links = [...list.querySelectorAll<HTMLElement>(".chat-link")];
  const at = links.findIndex((link) => link === document.activeElement);
  const next = links[step(at, links.length)];
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
}

interface ChatProps {
  readonly summary: Summary;
  readonly current: boolean;
  readonly stop: boolean;
  readonly draft: string;
  readonly today: number;
  readonly onOpen: (conversation: string) => void;
}

const Chat = memo(({ summary, current, stop, draft, today, onOpen }: ChatProps) => (
  <li class="chat">
    <a
      class="chat-link"
      href={conversationHref(summary.id)}
      tabIndex={stop ? 0 : -1}
      {...(current ? { "aria-current": "page" as const } : {})}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        onOpen(summary.id);
      }}
    >
      <Avatar id={summary.id} name={summary.title} />
      <span class="chat-title">
        <Name name={summary.title} />
        {!summary.encrypted && (
          <span class="chat-flag" title={texts.list.notEncrypted}>
            <OpenLockIcon />
            <span class="for-readers">{texts.list.notEncrypted}</span>
          </span>
        )}
      </span>
      <time class="chat-time" dateTime={formatMachine(summary.at)} title={formatFull(summary.at)}>
        {formatListTime(summary.at, today, texts)}
      </time>
      <span class="chat-preview">
        <PreviewLine summary={summary} draft={draft} />
      </span>
      {summary.unread > 0 && (
        <span class="badge">
          <span aria-hidden="true">{texts.list.badge(summary.unread)}</span>
          <span class="for-readers">{texts.list.unread(summary.unread)}</span>
        </span>
      )}
    </a>
  </li>
));

function PreviewLine(props: { readonly summary: Summary; readonly draft: string }): VNode {
  const { summary, draft } = props;
  if (draft !== "") {
    return (
      <>
        <span class="draft-label">{texts.list.draft}</span> <bdi>{oneLine(draft)}</bdi>
      </>
    );
  }
  if (!summary.member) return <i>{texts.list.left}</i>;
  if (summary.last === undefined) return <i>{texts.list.noMessages}</i>;
  return <LastMessage last={summary.last} group={summary.kind === "group"} />;
}

function LastMessage(props: { readonly last: Preview; readonly group: boolean }): VNode {
  const { last } = props;
  const author = last.mine ? texts.list.you : texts.list.by(displayName(last.author));
  return (
    <>
      {last.mine && last.tick !== undefined && last.state !== "retracted" && <TickMark tick={last.tick} />}
      {props.group && last.author !== "" && last.state !== "forged" && (
        <>
          <bdi class="chat-author">{author}</bdi>{" "}
        </>
      )}
      <LastText last={last} />
    </>
  );
}

function LastText({ last }: { readonly last: Preview }): VNode {
  const { state = "text" } = last;
  if (state !== "text") return <i class={`preview-${state}`}>{texts.list.instead[state]}</i>;
  return last.text.trim() === "" ? <i>{texts.list.withoutText}</i> : <bdi>{oneLine(last.text)}</bdi>;
}

function oneLine(text: string): string {
  return text.slice(0, PREVIEW_CHARS).replace(/\s+/gu, " ");
}

function Empty(props: Props): VNode {
  const me = props.model.me.value;
  return (
    <div class="list-empty">
      <h2>{texts.list.empty}</h2>
      <p>{texts.list.emptyHint}</p>
      <button type="button" class="button button-main" onClick={props.onNewChat}>
        <NewChatIcon />
        {texts.newChat.open}
      </button>
      {me !== undefined && <MyLink me={me} />}
    </div>
  );
}

function Skeleton(): VNode {
  return (
    <div class="skeletons" role="status">
      <span class="for-readers">{texts.list.loading}</span>
      {SKELETONS.map((key) => (
        <div class="skeleton" key={key} aria-hidden="true">
          <span class="skeleton-avatar" />
          <span class="skeleton-line" />
          <span class="skeleton-line skeleton-short" />
        </div>
      ))}
    </div>
  );
}
