/** Wires the core to the views. */

import { render } from "preact";

const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");
render(<p>Signet</p>, root);
