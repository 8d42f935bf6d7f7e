/** Where one writes. Enter sends, Shift+Enter breaks the line; the field grows with the text. */

import type { RefObject, VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Opened } from "../model";
import { draftOf, drafts, keepDraft } from "./drafts";
import { refusalText } from "./form";
import { SendIcon } from "./icons";
import { texts } from "./texts";

interface Props {
  readonly opened: Opened;
  readonly field: RefObject<HTMLTextAreaElement | null>;
}

/** Touching is not typing: on a phone the focus would raise the keyboard over what is to be read. */
function hasKeyboard(): boolean {
  return matchMedia("(hover: hover) and (pointer: fine)").matches;
}

export function Composer({ opened, field }: Props): VNode {
  const text = draftOf(opened.id);
  const [error, setError] = useState<string | undefined>(undefined);
  const gone = useRef(false);
  useEffect(() => {
    if (hasKeyboard()) field.current?.focus({ preventScroll: true });
    return () => {
      gone.current = true;
    };
  }, []);
  useLayoutEffect(() => grow(field.current), [text]);

  const send = (): void => {
    const said = text.trim();
    if (said === "") return;
    keepDraft(opened.id, "");
    setError(undefined);
    opened.send(said).catch((reason: unknown) => {
      // Back into the field, unless something else is being written already.
      if ((drafts.peek().get(opened.id) ?? "") === "") keepDraft(opened.id, said);
      if (!gone.current) setError(refusalText(reason));
    });
  };

  return (
    <form
      class="composer"
      data-pane
      onSubmit={(event) => {
        event.preventDefault();
        send();
        field.current?.focus();
      }}
    >
      <p class="error composer-error" role="alert" id="composer-error">
        {error}
      </p>
      <textarea
        ref={field}
        rows={1}
        value={text}
        placeholder={texts.composer.placeholder}
        aria-label={texts.composer.label}
        aria-describedby="composer-error"
        enterkeyhint="send"
        dir="auto"
        onInput={(event) => {
          keepDraft(opened.id, event.currentTarget.value);
          setError(undefined);
        }}
        onKeyDown={(event) => {
          // Enter that chooses a word of an input method is not ours.
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      <button type="submit" class="send-button" aria-label={texts.composer.send} title={texts.composer.send} disabled={text.trim() === ""}>
        <SendIcon />
      </button>
    </form>
  );
}

/** The greatest height stands in the styles. */
function grow(field: HTMLTextAreaElement | null): void {
  if (field === null) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}
