"""Reads the log of an IRC channel: `lines` tells what each line says, `script` who did it."""
