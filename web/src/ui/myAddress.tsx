/** What others need to write to this person: the link, and the id alone. */

import type { VNode } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import type { Me } from "../model";
import { Dialog } from "./dialog";
import { CopyIcon } from "./icons";
import { Avatar, Name } from "./people";
import { texts } from "./texts";

export function MyAddress(props: { readonly me: Me; readonly onClose: () => void }): VNode {
  return (
    <Dialog title={texts.myAddress.title} onClose={props.onClose}>
      <p class="person">
        <Avatar id={props.me.account} name={props.me.name} />
        <strong class="person-name">
          <Name name={props.me.name} />
        </strong>
      </p>
      <p>{texts.myAddress.hint}</p>
      <Copyable label={texts.myAddress.link} action={texts.myAddress.copyLink} text={props.me.address} />
      <Copyable label={texts.myAddress.id} action={texts.myAddress.copyId} text={props.me.account} />
    </Dialog>
  );
}

/** The empty list's way to say the same, without a dialog. */
export function MyLink(props: { readonly me: Me }): VNode {
  return <Copyable label={texts.myAddress.link} action={texts.myAddress.copyLink} text={props.me.address} />;
}

function Copyable(props: { readonly label: string; readonly action: string; readonly text: string }): VNode {
  const id = useId();
  const field = useRef<HTMLInputElement>(null);
  const [outcome, setOutcome] = useState("");
  const copy = (): void => {
    // There is no clipboard where the page came by plain HTTP from another machine.
    const copied = "clipboard" in navigator ? navigator.clipboard.writeText(props.text) : Promise.reject(new Error("no clipboard"));
    copied.then(
      () => setOutcome(texts.myAddress.copied),
      () => {
        setOutcome(texts.myAddress.copyFailed);
        field.current?.select();
      },
    );
  };
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <div class="copyable">
        <input id={id} ref={field} readOnly value={props.text} dir="ltr" onFocus={(event) => event.currentTarget.select()} />
        <button type="button" class="button" onClick={copy}>
          <CopyIcon />
          {props.action}
        </button>
      </div>
      <p class="hint" role="status">
        {outcome}
      </p>
    </div>
  );
}
