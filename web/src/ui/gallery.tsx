/** The views on scenes instead of a server: `npm run dev`, then /gallery.html. Not part of the build. */

import { render } from "preact";
import type { VNode } from "preact";
import { App } from "./app";
import { FakeModel } from "./fake";
import { SCENES } from "./scenes";

declare global {
  interface Window {
    /** For tests: what is on the screen. */
    model?: FakeModel;
  }
}

function Picker(): VNode {
  return (
    <main class="gallery">
      <h1>Scenes</h1>
      <ul>
        {Object.entries(SCENES).map(([name, { at }]) => (
          <li key={name}>
            <a href={`?scene=${name}${at}`}>{name}</a>
          </li>
        ))}
      </ul>
    </main>
  );
}

const root = document.getElementById("app");
if (root === null) throw new Error("gallery.html has no #app");
const chosen = SCENES[new URLSearchParams(location.search).get("scene") ?? ""];
if (chosen === undefined) {
  render(<Picker />, root);
} else {
  window.model = new FakeModel(chosen.scene);
  render(<App model={window.model} />, root);
}
