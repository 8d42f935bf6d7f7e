"""Plays real chat through real clients: `plan` reads the files, `crowd` is the people, `player` lets them act,
`journal` and `figures` say what came of it."""
