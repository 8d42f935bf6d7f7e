/** Names and avatars. Names are others' texts: cleaned, and isolated from the text around them. */

import type { VNode } from "preact";
import { cleanName, HUES, hueOf, initialsOf } from "./format";
import { texts } from "./texts";

/** Fixed classes and no styles: the Content-Security-Policy allows no style in markup. */
const HUE_CLASSES = Array.from({ length: HUES }, (_, hue) => `hue-${hue}`);

export function hueClass(id: string): string {
  return HUE_CLASSES[hueOf(id)] ?? "hue-0";
}

export function displayName(name: string): string {
  return cleanName(name) || texts.unnamed;
}

export function Name(props: { readonly name: string }): VNode {
  return <bdi>{displayName(props.name)}</bdi>;
}

/** Beside the name that it stands for: the letters are drawn by the styles, so that they are not read out or copied. */
export function Avatar(props: { readonly id: string; readonly name: string; readonly size?: "small" | "medium" | "large" }): VNode {
  return (
    <span class={`avatar avatar-${props.size ?? "medium"} ${hueClass(props.id)}`} data-initials={initialsOf(props.name)} aria-hidden="true" />
  );
}
