/** Fields with their label, hint and error, and what a form has in common: it is sent once at a time, and what was
 *  refused is said beside what caused it. */

import type { AllHTMLAttributes, ComponentChildren, RefObject, VNode } from "preact";
import { useId, useState } from "preact/hooks";
import { Refused } from "../model";
import { texts } from "./texts";

export function refusalText(error: unknown): string {
  return error instanceof Refused && error.message !== "" ? error.message : texts.failed;
}

type Attributes = Pick<
  AllHTMLAttributes<HTMLInputElement>,
  "autoFocus" | "autocomplete" | "spellcheck" | "inputMode" | "maxLength" | "required" | "onKeyDown" | "onPaste"
>;

interface FieldProps {
  readonly label: string;
  readonly value: string;
  readonly onValue: (value: string) => void;
  readonly hint?: string | undefined;
  readonly error?: string | undefined;
  readonly input?: RefObject<HTMLInputElement | null>;
  readonly attributes?: Attributes;
  readonly children?: ComponentChildren;
}

export function Field(props: FieldProps): VNode {
  const id = useId();
  const described = [props.hint === undefined ? "" : `${id}-hint`, props.error === undefined ? "" : `${id}-error`];
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.children}
      <input
        {...props.attributes}
        id={id}
        {...(props.input === undefined ? {} : { ref: props.input })}
        value={props.value}
        onInput={(event) => props.onValue(event.currentTarget.value)}
        aria-invalid={props.error !== undefined}
        aria-describedby={described.join(" ").trim()}
        dir="auto"
      />
      {props.hint !== undefined && (
        <p class="hint" id={`${id}-hint`}>
          {props.hint}
        </p>
      )}
      <p class="error" id={`${id}-error`} role="alert">
        {props.error}
      </p>
    </div>
  );
}

export interface Sending {
  readonly busy: boolean;
  readonly error: string | undefined;
  readonly clear: () => void;
  /** Says what was refused, unless the form is gone meanwhile. */
  readonly send: (action: () => Promise<void>) => void;
}

export function useSending(): Sending {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | undefined>(undefined);
  return {
    busy,
    error,
    clear: () => setError(undefined),
    send: (action) => {
      if (busy) return;
      setBusy(true);
      setError(undefined);
      action().then(
        () => setBusy(false),
        (reason: unknown) => {
          setBusy(false);
          setError(refusalText(reason));
        },
      );
    },
  };
}

export function SubmitButton(props: { readonly busy: boolean; readonly label: string }): VNode {
  return (
    <button type="submit" class="button button-main" aria-disabled={props.busy}>
      {props.busy ? texts.dialog.working : props.label}
    </button>
  );
}
