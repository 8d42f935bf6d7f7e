"""Read models are built anew from the log, beside the engine: `build` fills and compares one, `desk` puts it in the
place of the one that serves, `verb` is what operators call, `upgrade` does it after an upgrade of the engine."""
