/** One message. Its text is others' text: it goes into text nodes, and into links that are http or https. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { MessageItem } from "../model";
import { useSending } from "./form";
import { formatFull, formatMachine, formatTime } from "./format";
import { FaultIcon, LockIcon } from "./icons";
import { memo } from "./memo";
import { Avatar, displayName, hueClass, Name } from "./people";
import { beginningOf, isLargeEmoji, partsOf } from "./richText";
import { texts } from "./texts";
import { TickMark } from "./ticks";

/** Longer texts are cut, with a button for the rest. */
const LONG_CHARS = 2_400;
const LONG_SHOWN_CHARS = 1_600;

interface Props {
  readonly item: MessageItem;
  readonly first: boolean;
  readonly last: boolean;
  readonly group: boolean;
  readonly onDiscard: (item: MessageItem) => Promise<void>;
  readonly onEdit: (item: MessageItem) => void;
}

export const Bubble = memo((props: Props) => {
  const { item, first, last } = props;
  const others = props.group && !item.mine;
  const side = item.mine ? "mine" : "theirs";
  return (
    <li class={`row message ${side}${first ? " first" : ""}${last ? " last" : ""}${others ? " with-avatar" : ""}`} data-seq={item.seq} data-key={item.key}>
      {others && first && <Avatar id={item.author.account} name={item.author.name} size="small" />}
      <div class={`bubble${item.tick === "failed" ? " bubble-failed" : ""}`}>
        <Author item={item} visible={others && first} />
        <Content item={item} />
        {item.tick === "failed" && <Failure {...props} />}
      </div>
    </li>
  );
});

/** Always there for screen readers, which don't see on which side a bubble stands. */
function Author(props: { readonly item: MessageItem; readonly visible: boolean }): VNode {
  const { author, mine } = props.item;
  if (!props.visible) return <span class="for-readers">{`${mine ? texts.conversation.you : displayName(author.name)}:`}</span>;
  return (
    <span class={`author ${hueClass(author.account)}`}>
      <Name name={author.name} />
    </span>
  );
}

function Content(props: { readonly item: MessageItem }): VNode {
  const { item } = props;
  if (item.state === "text" && isLargeEmoji(item.text)) {
    return (
      <div class="text text-emoji" dir="auto">
        {item.text.trim()}
        <Meta item={item} />
      </div>
    );
  }
  if (item.state === "text") return <Text item={item} />;
  return (
    <div class={`text text-instead text-${item.state}`}>
      {item.state === "forged" ? <FaultIcon /> : item.state === "undecryptable" ? <LockIcon /> : null}
      {texts.message[item.state]}
      <Meta item={item} />
    </div>
  );
}

function Text(props: { readonly item: MessageItem }): VNode {
  const { item } = props;
  const [all, setAll] = useState(false);
  const cut = !all && item.text.length > LONG_CHARS;
  return (
    <div class="text" dir="auto">
      {partsOf(cut ? `${beginningOf(item.text, LONG_SHOWN_CHARS)}…` : item.text).map((part) =>
        part.kind === "text" ? (
          part.text
        ) : (
          <a href={part.href} target="_blank" rel="noopener noreferrer">
            {part.text}
          </a>
        ),
      )}
      {cut && (
        <button type="button" class="show-all" onClick={() => setAll(true)}>
          {texts.message.showAll}
        </button>
      )}
      <Meta item={item} />
    </div>
  );
}

/** The time and the ticks: a float, which stands in the last line where there is room, else below it. */
function Meta(props: { readonly item: MessageItem }): VNode {
  const { item } = props;
  return (
    <span class="meta">
      <time dir="ltr" dateTime={formatMachine(item.at)} title={formatFull(item.at)}>
        {formatTime(item.at)}
      </time>
      {item.mine && item.tick !== undefined && item.state !== "retracted" && <TickMark tick={item.tick} />}
    </span>
  );
}

function Failure(props: Props): VNode {
  const { item } = props;
  const discarding = useSending();
  return (
    <div class="failure" role="group" aria-label={texts.message.failedActions}>
      <p class="failure-text">
        {texts.message.failed} {item.refusal}
      </p>
      <button type="button" class="button button-small" onClick={() => props.onEdit(item)}>
        {texts.message.edit}
      </button>
      <button type="button" class="button button-small" onClick={() => discarding.send(() => props.onDiscard(item))}>
        {texts.message.discard}
      </button>
      <p class="error" role="alert">
        {discarding.error}
      </p>
    </div>
  );
}
