/** The first page: choose a name. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Model, Phase } from "../model";
import { Field, SubmitButton, useSending } from "./form";
import { cleanName } from "./format";
import { route } from "./route";
import { Screen } from "./screens";
import { texts } from "./texts";

const NAME_CHARS_MAX = 128;
const INVITATION_CHARS_MAX = 256;

interface Props {
  readonly model: Model;
  readonly phase: Extract<Phase, { kind: "new" }>;
}

export function Registration({ model, phase }: Props): VNode {
  const server = cleanName(phase.server);
  if (phase.registration === "closed") {
    return (
      <Screen title={texts.registration.closedTitle}>
        <p>{texts.registration.closedHint(server)}</p>
      </Screen>
    );
  }
  return (
    <Screen title={texts.registration.title}>
      <p>{texts.registration.lead(server)}</p>
      <Form model={model} invited={phase.registration === "invited"} />
    </Screen>
  );
}

function Form(props: { readonly model: Model; readonly invited: boolean }): VNode {
  const [name, setName] = useState("");
  const [invitation, setInvitation] = useState("");
  const [tried, setTried] = useState(false);
  const sending = useSending();
  const nameWrong = tried && name.trim() === "" ? texts.registration.nameMissing : undefined;
  const invitationWrong = tried && props.invited && invitation.trim() === "" ? texts.registration.invitationMissing : undefined;
  const submit = (event: Event): void => {
    event.preventDefault();
    setTried(true);
    if (name.trim() === "" || (props.invited && invitation.trim() === "")) return;
    sending.send(() => props.model.register(name.trim(), invitation.trim()));
  };
  return (
    <form class="form" onSubmit={submit} noValidate>
      <Field
        label={texts.registration.name}
        value={name}
        error={nameWrong ?? (props.invited ? undefined : sending.error)}
        onValue={(value) => {
          setName(value);
          sending.clear();
        }}
        attributes={{ autoFocus: true, autocomplete: "name", required: true, maxLength: NAME_CHARS_MAX }}
      />
      {props.invited && (
        <Field
          label={texts.registration.invitation}
          hint={texts.registration.invitationHint}
          value={invitation}
          error={invitationWrong ?? sending.error}
          onValue={(value) => {
            setInvitation(value);
            sending.clear();
          }}
          attributes={{ autocomplete: "off", spellcheck: false, required: true, maxLength: INVITATION_CHARS_MAX }}
        />
      )}
      {route.value.kind === "address" && <p class="note">{texts.registration.invited}</p>}
      <SubmitButton busy={sending.busy} label={texts.registration.submit} />
      <p class="hint">{texts.registration.keys}</p>
    </form>
  );
}
