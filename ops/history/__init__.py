"""The history as an operator reads it: in words, by conversation or account, and the ids to ask for."""
