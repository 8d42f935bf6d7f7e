/** Pages that stand alone: while it opens, in another tab, and where it can't go on. */

import type { ComponentChildren, VNode } from "preact";
import type { Model, Phase } from "../model";
import { Mark } from "./icons";
import { texts } from "./texts";

export function Screen(props: { readonly title: string; readonly children: ComponentChildren }): VNode {
  return (
    <main class="screen">
      <div class="card">
        <Mark />
        <h1>{props.title}</h1>
        {props.children}
      </div>
    </main>
  );
}

export function Starting(): VNode {
  return (
    <main class="screen" aria-busy="true">
      <div class="starting" role="status">
        <Mark />
        <span class="for-readers">{texts.starting}</span>
      </div>
    </main>
  );
}

export function Elsewhere(props: { readonly model: Model }): VNode {
  return (
    <Screen title={texts.elsewhere.title}>
      <p>{texts.elsewhere.hint}</p>
      <button type="button" class="button button-main" autoFocus onClick={() => props.model.useHere()}>
        {texts.elsewhere.useHere}
      </button>
    </Screen>
  );
}

type StoppedPhase = Extract<Phase, { kind: "stopped" }>;

/** Where a reload can't help, none is offered. */
const RELOAD_HELPS: Record<StoppedPhase["reason"], boolean> = { revoked: false, refused: false, replaced: true, broken: true, storage: true };

export function Stopped(props: { readonly phase: StoppedPhase }): VNode {
  const { phase } = props;
  const advice = texts.stopped[phase.reason];
  return (
    <Screen title={advice.title}>
      <p role="alert">{advice.todo}</p>
      {RELOAD_HELPS[phase.reason] && (
        <button type="button" class="button button-main" onClick={() => location.reload()}>
          {texts.reload}
        </button>
      )}
      {phase.text !== "" && (
        <p class="reason" dir="auto">
          {phase.text}
        </p>
      )}
    </Screen>
  );
}
