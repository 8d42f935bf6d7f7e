/** The right side: one conversation. */

import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { MessageItem, Model, Opened, Person, Summary } from "../model";
import { Composer } from "./composer";
import { ConnectionLine } from "./connectionLine";
import { Dialog } from "./dialog";
import { keepDraft } from "./drafts";
import { BackIcon, InfoIcon, LockIcon, OpenLockIcon } from "./icons";
import { Avatar, displayName, Name } from "./people";
import { goToList } from "./route";
import { texts } from "./texts";
import { Timeline } from "./timeline";

interface Props {
  readonly model: Model;
  readonly summary: Summary;
}

/** Keyed by the conversation's id: another one is another component, with another position. */
export function Conversation({ model, summary }: Props): VNode {
  const [opened] = useState(() => model.open(summary.id));
  const [details, setDetails] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => () => opened.close(), []);
  // Held over the life of the component, so that rows are not drawn again for it.
  const [edit] = useState(() => (item: MessageItem): void => {
    keepDraft(opened.id, item.text);
    void opened.discard(item.key).catch(() => undefined);
    field.current?.focus();
  });
  return (
    <section class="conversation" aria-label={texts.conversation.label(displayName(summary.title))}>
      <Head model={model} summary={summary} opened={opened} onDetails={() => setDetails(true)} />
      <Timeline opened={opened} summary={summary} me={model.me.value?.account ?? ""} onEdit={edit} />
      {summary.member ? <Composer opened={opened} field={field} /> : <p class="composer-note">{texts.conversation.left}</p>}
      {details && <Details model={model} summary={summary} opened={opened} onClose={() => setDetails(false)} />}
    </section>
  );
}

interface HeadProps extends Props {
  readonly opened: Opened;
  readonly onDetails: () => void;
}

function Head({ model, summary, opened, onDetails }: HeadProps): VNode {
  return (
    <header class="conversation-head">
      <BackButton />
      <Avatar id={summary.id} name={summary.title} size="small" />
      <div class="conversation-titles">
        <h2>
          <Name name={summary.title} />
        </h2>
        <ConnectionLine connection={model.connection.value}>
          <Subtitle summary={summary} members={opened.members.value} me={model.me.value?.account} />
        </ConnectionLine>
      </div>
      <button type="button" class="icon-button" aria-label={texts.conversation.details} title={texts.conversation.details} onClick={onDetails}>
        <InfoIcon />
      </button>
    </header>
  );
}

export function BackButton(): VNode {
  return (
    <button type="button" class="icon-button back-button" aria-label={texts.conversation.back} title={texts.conversation.back} onClick={goToList}>
      <BackIcon />
    </button>
  );
}

/** In a group who is in it, else how it is protected. */
function Subtitle(props: { readonly summary: Summary; readonly members: readonly Person[]; readonly me: string | undefined }): VNode {
  const { summary, members } = props;
  const protection = summary.encrypted ? texts.conversation.encrypted : texts.conversation.notEncrypted;
  const names = members.map((person) => (person.account === props.me ? texts.details.you : displayName(person.name)));
  return (
    <>
      <span class={`protection${summary.encrypted ? "" : " protection-none"}`} title={protection}>
        {summary.encrypted ? <LockIcon /> : <OpenLockIcon />}
        {summary.kind === "group" && names.length > 0 ? <span class="for-readers">{protection}</span> : <span class="protection-text">{protection}</span>}
      </span>
      {summary.kind === "group" && names.length > 0 && (
        <span class="subtitle-members">
          {names.map((name, i) => (
            <>
              {i > 0 && ", "}
              <bdi>{name}</bdi>
            </>
          ))}
        </span>
      )}
    </>
  );
}

interface DetailsProps extends Props {
  readonly opened: Opened;
  readonly onClose: () => void;
}

function Details({ model, summary, opened, onClose }: DetailsProps): VNode {
  const members = opened.members.value;
  return (
    <Dialog title={texts.conversation.details} onClose={onClose}>
      <p class="person">
        <Avatar id={summary.id} name={summary.title} size="large" />
        <strong class="person-name">
          <Name name={summary.title} />
        </strong>
      </p>
      <p class={`protection-note${summary.encrypted ? "" : " protection-none"}`}>
        {summary.encrypted ? <LockIcon /> : <OpenLockIcon />}
        <span>
          <strong>{summary.encrypted ? texts.conversation.encrypted : texts.conversation.notEncrypted}.</strong>{" "}
          {summary.encrypted ? texts.conversation.encryptedHint : texts.conversation.notEncryptedHint}
        </span>
      </p>
      {members.length > 0 && (
        <>
          <h3>{texts.conversation.members(members.length)}</h3>
          <ul class="members">
            {members.map((person) => (
              <li class="person" key={person.account}>
                <Avatar id={person.account} name={person.name} size="small" />
                <span class="person-name">
                  <Name name={person.name} />
                  {person.account === model.me.value?.account && <span class="muted"> ({texts.details.you})</span>}
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
    </Dialog>
  );
}
