/** The messages of a conversation. Only the end of a long one is rendered; more follows as the person scrolls up, first from
 *  what is there, then from the model. */

import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import type { ReadonlySignal, Signal } from "@preact/signals";
import type { VNode } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ChangeItem, Item, MessageItem, Opened, Person, Summary } from "../model";
import { arrange, countNew } from "./arranging";
import type { Row } from "./arranging";
import { Bubble } from "./bubble";
import { now } from "./clock";
import { formatDay, formatMachine, formatNumber } from "./format";
import { DownIcon } from "./icons";
import { memo } from "./memo";
import { headOf, NewLine } from "./newLine";
import { displayName } from "./people";
import { Reading } from "./reading";
import { texts } from "./texts";
import type { Who } from "./texts";

/** Rows that are rendered at first, and that are added at a time: some screens full. */
const RENDERED_AT_FIRST = 80;
const RENDERED_MORE = 80;
const ANNOUNCED_CHARS = 300;

interface Props {
  readonly opened: Opened;
  readonly summary: Summary;
  readonly me: string;
  readonly onEdit: (item: MessageItem) => void;
}

export function Timeline(props: Props): VNode {
  const { opened } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const newLine = useNewLine(opened);
  const rendered = useSignal(renderedAtFirst(opened.items.peek(), newLine.from.peek()));
  const earlier = useEarlier(opened, rendered);
  const [reading] = useState(() => new Reading(() => earlier.nearStart()));
  const shown = useComputed(() => opened.items.value.slice(-rendered.value));
  const days = useComputed(() => arrange(shown.value, newLine.from.value));
  const started = useRef(false);

  useLayoutEffect(() => {
    if (scroller.current === null || content.current === null) return undefined;
    return reading.attach(scroller.current, content.current);
  }, []);
  useSignalEffect(() => {
    const looking = reading.atEnd.peek() && document.visibilityState === "visible" && document.hasFocus();
    if (newLine.take(opened.items.value, looking)) rendered.value = Math.max(rendered.peek(), renderedAtFirst(opened.items.peek(), newLine.from.peek()));
  });
  useOwnMessages(opened, reading);
  // The first time it goes to where the person had stopped reading; later it stays where they are.
  useLayoutEffect(() => {
    if (!started.current && shown.value.length > 0) {
      started.current = true;
      const line = content.current?.querySelector(".new-line");
      if (line) reading.toLine(line);
      else reading.toEnd();
    }
    reading.hold();
  }, [days.value]);
  useSignalEffect(() => {
    const seq = reading.seenUpto.value;
    if (seq > 0) opened.seen(seq);
  });

  const empty = shown.value.length === 0;
  const more = opened.more.value || opened.items.value.length > rendered.value;
  return (
    <div class="timeline">
      <div class="scroller" ref={scroller} role="log" aria-live="off" aria-label={texts.conversation.messages} tabIndex={0}>
        <div class="scrolled" ref={content}>
          {empty && (more ? <Skeleton /> : <EmptyNote />)}
          {!empty && more && <Earlier failed={earlier.failed.value} onRetry={earlier.retry} />}
          {days.value.map((day) => (
            <section class="day" key={day.at}>
              <h3 class="day-label">
                <time dateTime={formatMachine(day.at)}>{formatDay(day.at, now.value, texts)}</time>
              </h3>
              <ol class="rows">
                {day.rows.map((row) => (
                  <RowView key={row.kind === "line" ? "line" : row.item.key} row={row} {...props} />
                ))}
              </ol>
            </section>
          ))}
        </div>
      </div>
      <ToEnd items={opened.items} reading={reading} />
      <Announcer items={opened.items} />
    </div>
  );
}

interface EarlierItems {
  readonly failed: ReadonlySignal<boolean>;
  nearStart(): void;
  retry(): void;
}

/** Brings earlier items when the start is near. After a failure it waits for the person. */
function useEarlier(opened: Opened, rendered: Signal<number>): EarlierItems {
  const loading = useRef(false);
  const failed = useSignal(false);
  const [earlier] = useState(() => {
    const load = (): void => {
      if (loading.current || !opened.more.peek()) return;
      loading.current = true;
      rendered.value = opened.items.peek().length + RENDERED_MORE;
      opened.loadMore().then(
        () => {
          loading.current = false;
        },
        () => {
          loading.current = false;
          failed.value = true;
        },
      );
    };
    return {
      failed,
      nearStart: () => {
        if (opened.items.peek().length > rendered.peek()) rendered.value += RENDERED_MORE;
        else if (!failed.peek()) load();
      },
      retry: () => {
        failed.value = false;
        load();
      },
    };
  });
  return earlier;
}

/** Whoever writes is at the end from then on, wherever they were reading. */
function useOwnMessages(opened: Opened, reading: Reading): void {
  const last = useRef<string | undefined>(undefined);
  useSignalEffect(() => {
    const item = opened.items.value.at(-1);
    const waits = item?.kind === "message" && item.tick === "waiting";
    if (waits && last.current !== undefined && item.key !== last.current) reading.atEnd.value = true;
    last.current = item?.key;
  });
}

function useNewLine(opened: Opened): NewLine {
  const [line] = useState(() => {
    const begun = new NewLine(opened.readBefore);
    begun.take(opened.items.peek(), false);
    return begun;
  });
  return line;
}

/** All that is new, with some of what was before it. */
function renderedAtFirst(items: readonly Item[], newFrom: string | undefined): number {
  const at = newFrom === undefined ? items.length : items.findIndex((item) => item.key === newFrom);
  return items.length - at + RENDERED_AT_FIRST;
}

interface RowProps extends Props {
  readonly row: Row;
}

function RowView({ row, opened, summary, me, onEdit }: RowProps): VNode {
  const [discard] = useState(() => (item: MessageItem) => opened.discard(item.key));
  if (row.kind === "line") {
    return (
      <li class="new-line">
        <span>{texts.conversation.newMessages}</span>
      </li>
    );
  }
  if (row.kind === "change") return <Change item={row.item} me={me} group={summary.kind === "group"} />;
  return <Bubble item={row.item} first={row.first} last={row.last} group={summary.kind === "group"} onDiscard={discard} onEdit={onEdit} />;
}

const Change = memo(({ item, me, group }: { readonly item: ChangeItem; readonly me: string; readonly group: boolean }) => (
  <li class="row change" data-seq={item.seq}>
    <span class="change-text">{changeText(item, me, group)}</span>
  </li>
));

function changeText(item: ChangeItem, me: string, group: boolean): string {
  const who = (person: Person): Who => (person.account === me ? undefined : displayName(person.name));
  const [by, people] = [who(item.by), item.people.map(who)];
  switch (item.what) {
    case "started":
      return texts.change.started(by, group);
    case "added":
      return texts.change.added(by, people);
    case "removed":
      return texts.change.removed(by, people);
    case "left":
      return texts.change.left(item.people[0] === undefined ? by : people[0]);
    case "role":
      return texts.change.role(by, people);
    case "title":
      return item.title === undefined ? texts.change.untitled(by) : texts.change.title(by, displayName(item.title));
    default:
      return item.what satisfies never;
  }
}

function Earlier(props: { readonly failed: boolean; readonly onRetry: () => void }): VNode {
  return (
    <div class="earlier" role="status">
      {props.failed ? (
        <>
          <span>{texts.conversation.earlierFailed}</span>
          <button type="button" class="button button-small" onClick={props.onRetry}>
            {texts.conversation.retry}
          </button>
        </>
      ) : (
        <>
          <span class="spinner" />
          <span class="for-readers">{texts.conversation.loadingEarlier}</span>
        </>
      )}
    </div>
  );
}

function ToEnd(props: { readonly items: ReadonlySignal<readonly Item[]>; readonly reading: Reading }): VNode | null {
  const { reading } = props;
  if (reading.atEnd.value) return null;
  const count = countNew(props.items.value, reading.seenUpto.value);
  const label = count > 0 ? texts.conversation.toEndWith(count) : texts.conversation.toEnd;
  return (
    <button type="button" class="to-end" aria-label={label} title={label} onClick={() => reading.toEnd()}>
      <DownIcon />
      {count > 0 && <span class="badge">{formatNumber(count)}</span>}
    </button>
  );
}

/** Reads out what comes while the conversation is open. The log itself doesn't: it would read out what is loaded above. */
function Announcer(props: { readonly items: ReadonlySignal<readonly Item[]> }): VNode {
  const said = useSignal("");
  const known = useRef<number | undefined>(undefined);
  useSignalEffect(() => {
    const items = props.items.value;
    const head = headOf(items);
    const last = items.findLast((item) => item.kind === "message" && !item.mine && item.seq > (known.current ?? head));
    if (known.current !== undefined && last?.kind === "message" && last.state === "text") {
      said.value = texts.conversation.said(displayName(last.author.name), last.text.slice(0, ANNOUNCED_CHARS));
    }
    if (items.length > 0) known.current = head;
  });
  return (
    <p class="for-readers" role="log" aria-live="polite" aria-label={texts.conversation.newMessages}>
      {said.value}
    </p>
  );
}

function EmptyNote(): VNode {
  return (
    <div class="conversation-note">
      <h3>{texts.conversation.empty}</h3>
      <p>{texts.conversation.emptyHint}</p>
    </div>
  );
}

const SKELETON_SIDES = ["theirs", "mine", "theirs", "theirs", "mine", "theirs"] as const;

function Skeleton(): VNode {
  return (
    <div class="bubble-skeletons" role="status">
      <span class="for-readers">{texts.conversation.loading}</span>
      {SKELETON_SIDES.map((side, i) => (
        <span class={`bubble-skeleton ${side}`} key={i} aria-hidden="true" />
      ))}
    </div>
  );
}
