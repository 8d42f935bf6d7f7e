import { mergeConfig } from "vite";
import app from "./vite.config.ts";

/** Builds the gallery of scenes, for tests that look at it as it would be served. */
export default mergeConfig(app, { build: { rolldownOptions: { input: "gallery.html" } } });
