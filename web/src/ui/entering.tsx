/** The page on which somebody arrives by a log-in link. */

import type { VNode } from "preact";
import type { Model, Phase } from "../model";
import { SubmitButton, useSending } from "./form";
import { cleanName } from "./format";
import { Screen } from "./screens";
import { texts } from "./texts";

interface Props {
  readonly model: Model;
  readonly phase: Extract<Phase, { kind: "entering" }>;
}

export function Entering({ model, phase }: Props): VNode {
  const name = cleanName(phase.name);
  switch (phase.state) {
    case "asked":
      return <Asked model={model} name={name} />;
    case "wrong":
      return (
        <Screen title={texts.entering.wrongTitle}>
          <p role="alert">{texts.entering.wrongTodo}</p>
          <GoOn model={model} label={texts.entering.wrongGoOn} />
        </Screen>
      );
    case "taken":
      return (
        <Screen title={texts.entering.takenTitle(name)}>
          <p>{texts.entering.takenTodo}</p>
          <GoOn model={model} label={texts.entering.takenGoOn(name)} />
        </Screen>
      );
    default:
      return phase.state satisfies never;
  }
}

function Asked({ model, name }: { readonly model: Model; readonly name: string }): VNode {
  const sending = useSending();
  const submit = (event: Event): void => {
    event.preventDefault();
    sending.send(() => model.enter());
  };
  return (
    <Screen title={texts.entering.title(name)}>
      <p>{texts.entering.lead(name)}</p>
      <form class="form" onSubmit={submit}>
        <p class="error" role="alert">
          {sending.error}
        </p>
        <div class="actions">
          <button type="button" class="button button-quiet" onClick={() => model.dismissLink()}>
            {texts.entering.notNow}
          </button>
          <SubmitButton busy={sending.busy} label={texts.entering.submit} />
        </div>
      </form>
      <p class="hint">{texts.entering.once}</p>
    </Screen>
  );
}

function GoOn({ model, label }: { readonly model: Model; readonly label: string }): VNode {
  return (
    <button type="button" class="button button-main" autoFocus onClick={() => model.dismissLink()}>
      {label}
    </button>
  );
}
