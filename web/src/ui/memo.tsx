/** A component that is drawn again only when one of its props is another one. */

import { Component } from "preact";
import type { ComponentChild, ComponentType } from "preact";

export function memo<Props extends object>(draw: (props: Props) => ComponentChild): ComponentType<Props> {
  return class Memo extends Component<Props> {
    override shouldComponentUpdate(next: Readonly<Props>): boolean {
      return differ(this.props, next);
    }

    override render(): ComponentChild {
      return draw(this.props);
    }
  };
}

function differ<Props extends object>(one: Props, other: Props): boolean {
  const keys = Object.keys(other) as (keyof Props)[];
  return keys.length !== Object.keys(one).length || keys.some((key) => one[key] !== other[key]);
}
