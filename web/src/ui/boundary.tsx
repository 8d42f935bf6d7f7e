/** Where drawing fails, a page that says so instead of an empty one. */

import { Component } from "preact";
import type { ComponentChild, ComponentChildren } from "preact";
import { Stopped } from "./screens";

interface Props {
  readonly children: ComponentChildren;
}

interface State {
  readonly fault?: string;
}

export class Boundary extends Component<Props, State> {
  static override getDerivedStateFromError(error: unknown): State {
    return { fault: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
  }

  override render({ children }: Props, { fault }: State): ComponentChild {
    return fault === undefined ? children : <Stopped phase={{ kind: "stopped", reason: "broken", text: fault }} />;
  }
}
