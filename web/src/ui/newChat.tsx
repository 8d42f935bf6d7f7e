/** The dialog that starts a conversation with one person. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Model } from "../model";
import { accountIn, ADDRESS_CHARS_MAX } from "./addresses";
import { Dialog } from "./dialog";
import { Field, SubmitButton, useSending } from "./form";
import { NewGroupIcon } from "./icons";
import { texts } from "./texts";

interface Props {
  readonly model: Model;
  /** Of the link by which the page was opened. */
  readonly address: string;
  readonly onStarted: (conversation: string) => void;
  readonly onGroup: () => void;
  readonly onClose: () => void;
}

export function NewChat(props: Props): VNode {
  const [address, setAddress] = useState(props.address);
  const [wrong, setWrong] = useState<string | undefined>(undefined);
  const sending = useSending();
  const submit = (event: Event): void => {
    event.preventDefault();
    if (address.trim() === "") setWrong(texts.newChat.missing);
    else if (accountIn(address) === undefined) setWrong(texts.newChat.notAnAddress);
    else sending.send(async () => props.onStarted(await props.model.startDirect(address.trim())));
  };
  return (
    <Dialog title={texts.newChat.title} onClose={props.onClose}>
      <form class="form" onSubmit={submit} noValidate>
        {props.address !== "" && <p>{texts.newChat.invited}</p>}
        <Field
          label={texts.newChat.field}
          hint={texts.newChat.hint}
          value={address}
          error={wrong ?? sending.error}
          onValue={(value) => {
            setAddress(value);
            setWrong(undefined);
            sending.clear();
          }}
          attributes={{ autoFocus: true, autocomplete: "off", spellcheck: false, inputMode: "url", maxLength: ADDRESS_CHARS_MAX }}
        />
        <div class="actions">
          <button type="button" class="button button-quiet" onClick={props.onGroup}>
            <NewGroupIcon />
            {texts.newChat.orGroup}
          </button>
          <SubmitButton busy={sending.busy} label={texts.newChat.submit} />
        </div>
      </form>
    </Dialog>
  );
}
