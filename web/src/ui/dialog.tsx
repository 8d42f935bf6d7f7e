/** A window over the page: the browser's own, which keeps the focus, closes with Esc, and gives the focus back. */

import type { ComponentChildren, VNode } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { CloseIcon } from "./icons";
import { texts } from "./texts";

interface Props {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

export function Dialog(props: Props): VNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  // Before it is painted, so that it has the keys from its first moment. It isn't closed when it goes: that would be told
  // to `onClose` when another one may be open in its place.
  useLayoutEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      class="dialog"
      ref={dialog}
      aria-labelledby={title}
      onClose={props.onClose}
      onPointerDown={(event) => {
        // The dialog itself is hit only beside its content, which covers all of it.
        if (event.target === dialog.current) dialog.current?.close();
      }}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id={title}>{props.title}</h2>
          <button type="button" class="icon-button" aria-label={texts.dialog.close} title={texts.dialog.close} onClick={() => dialog.current?.close()}>
            <CloseIcon />
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}
