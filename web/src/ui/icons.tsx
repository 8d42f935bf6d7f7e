/** Drawn for Signet, on a grid of 24. They say nothing to screen readers: the words stand beside them. */

import type { ComponentChildren, VNode } from "preact";

function Icon(props: { readonly children: ComponentChildren; readonly wide?: boolean }): VNode {
  return (
    <svg class="icon" viewBox={props.wide === true ? "0 0 28 24" : "0 0 24 24"} aria-hidden="true" focusable="false">
      {props.children}
    </svg>
  );
}

export const SearchIcon = (): VNode => (
  <Icon>
    <circle cx="10.5" cy="10.5" r="6" />
    <path d="M15 15l5 5" />
  </Icon>
);

export const CloseIcon = (): VNode => (
  <Icon>
    <path d="M6 6l12 12M18 6L6 18" />
  </Icon>
);

export const BackIcon = (): VNode => (
  <Icon>
    <path d="M14.5 5l-7 7 7 7" />
  </Icon>
);

export const NewChatIcon = (): VNode => (
  <Icon>
    <path d="M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v7a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 4v-4A2.5 2.5 0 0 1 4 13.5z" />
    <path d="M12 7v6M9 10h6" />
  </Icon>
);

export const NewGroupIcon = (): VNode => (
  <Icon>
    <circle cx="9" cy="8" r="3.2" />
    <path d="M2.8 19c.4-3.6 2.8-5.6 6.2-5.6 2.3 0 4.2 1 5.3 2.7" />
    <path d="M15 5.2a3.2 3.2 0 0 1 0 5.6M18.5 14v6M15.5 17h6" />
  </Icon>
);

export const SendIcon = (): VNode => (
  <Icon>
    <path class="filled" d="M3.5 4.2c0-.6.6-1 1.2-.7l15.8 7.6c.7.3.7 1.4 0 1.7L4.7 20.5c-.6.3-1.2-.1-1.2-.7l1.7-6.3 8.3-1.5-8.3-1.5z" />
  </Icon>
);

export const DownIcon = (): VNode => (
  <Icon>
    <path d="M5.5 9l6.5 6.5L18.5 9" />
  </Icon>
);

export const InfoIcon = (): VNode => (
  <Icon>
    <circle cx="12" cy="12" r="8.5" />
    <path d="M12 11v5.5M12 7.5v.01" />
  </Icon>
);

export const LockIcon = (): VNode => (
  <Icon>
    <rect x="5" y="10.5" width="14" height="9.5" rx="2" />
    <path d="M8 10.5V8a4 4 0 0 1 8 0v2.5" />
  </Icon>
);

export const OpenLockIcon = (): VNode => (
  <Icon>
    <rect x="5" y="10.5" width="14" height="9.5" rx="2" />
    <path d="M8 10.5V7.5a4 4 0 0 1 7.6-1.7" />
  </Icon>
);

export const ClockIcon = (): VNode => (
  <Icon>
    <circle cx="12" cy="12" r="8" />
    <path d="M12 7.5V12l3 2" />
  </Icon>
);

export const CheckIcon = (): VNode => (
  <Icon>
    <path d="M5 12.5l4.5 4.5L19 7.5" />
  </Icon>
);

export const ChecksIcon = (): VNode => (
  <Icon wide>
    <path d="M2.5 12.5L7 17l9.5-9.5M12.5 15.5L14 17l9.5-9.5" />
  </Icon>
);

export const FaultIcon = (): VNode => (
  <Icon>
    <circle cx="12" cy="12" r="8.5" />
    <path d="M12 7v6M12 16.5v.01" />
  </Icon>
);

export const CopyIcon = (): VNode => (
  <Icon>
    <rect x="8.5" y="8.5" width="11.5" height="11.5" rx="2" />
    <path d="M15.5 8.5V6a2 2 0 0 0-2-2H6a2 2 0 0 0-2 2v7.5a2 2 0 0 0 2 2h2.5" />
  </Icon>
);

/** The mark of Signet, as in icon.svg: a seal with two ticks. */
export const Mark = (): VNode => (
  <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <circle class="mark-seal" cx="16" cy="16" r="15" />
    <path class="mark-line" d="M8.5 16.5l4 4 7.5-9M15.5 18.5l2 2 7.5-9" />
  </svg>
);
