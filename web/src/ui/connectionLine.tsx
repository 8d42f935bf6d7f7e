/** What the connection does, in a line that is there anyway, so that nothing jumps when it breaks and comes back. */

import type { ComponentChildren, VNode } from "preact";
import type { Connection } from "../model";
import { texts } from "./texts";

/** `children`: what stands there while all is well. */
export function ConnectionLine(props: { readonly connection: Connection; readonly children: ComponentChildren }): VNode {
  const live = props.connection === "live";
  return (
    <p class={`status-line connection-${props.connection}`}>
      {!live && <span class="connection-dot" />}
      {live ? props.children : <span class="connection-text">{texts.connection[props.connection]}</span>}
    </p>
  );
}

/** The same for screen readers: once, however many lines show it. */
export function ConnectionStatus(props: { readonly connection: Connection }): VNode {
  return (
    <p class="for-readers" role="status">
      {props.connection === "live" ? "" : texts.connection[props.connection]}
    </p>
  );
}
