/** Wires the core to the views. */

import { render } from "preact";

import { takeSecret } from "./core/entering.ts";
import { openSession } from "./core/session.ts";
import { App } from "./ui/app.tsx";

const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");
const model = await openSession({ base: location.origin, secret: takeSecret() });
window.addEventListener("hashchange", () => {
  const secret = takeSecret();
  if (secret !== undefined) model.openLink(secret);
});
render(<App model={model} />, root);
