/** ✓ on the server's disk, ✓✓ with everybody, ✓✓ in colour read by everybody. */

import type { VNode } from "preact";
import type { Tick } from "../model";
import { CheckIcon, ChecksIcon, ClockIcon, FaultIcon } from "./icons";
import { texts } from "./texts";

const ICONS: Record<Tick, () => VNode> = {
  waiting: ClockIcon,
  sent: CheckIcon,
  delivered: ChecksIcon,
  read: ChecksIcon,
  failed: FaultIcon,
};

export function TickMark(props: { readonly tick: Tick }): VNode {
  const Picture = ICONS[props.tick];
  return (
    <span class={`tick tick-${props.tick}`} title={texts.tick[props.tick]}>
      <Picture />
      <span class="for-readers">{texts.tick[props.tick]}</span>
    </span>
  );
}
