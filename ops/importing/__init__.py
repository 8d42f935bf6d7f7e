"""Puts the logs of an IRC channel into the event log: `files` finds them, `times` and `links` tell when each line was
written and what it answers, `importer` carries them out by the one writer, `readmodels` follows.
"""
