"""The tables of a device's store, and what each later version has added to them."""

from typing import Final

FIRST: Final = """
CREATE TABLE device (one INTEGER PRIMARY KEY CHECK (one = 1), profile TEXT NOT NULL, identity BLOB NOT NULL) STRICT;
CREATE TABLE conversations (
    conversation TEXT PRIMARY KEY, kind TEXT NOT NULL, protection TEXT NOT NULL, title TEXT, peer TEXT
) STRICT;
CREATE TABLE members (
    conversation TEXT, account TEXT, role TEXT NOT NULL, PRIMARY KEY (conversation, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE marks (
    conversation TEXT PRIMARY KEY, cursor INTEGER NOT NULL, read INTEGER NOT NULL,
    tick_delivered INTEGER NOT NULL, tick_read INTEGER NOT NULL, undelivered TEXT NOT NULL
) STRICT;
CREATE TABLE items (
    conversation TEXT, seq INTEGER, item BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, conversation TEXT NOT NULL,
    header TEXT NOT NULL, body TEXT NOT NULL, signature TEXT NOT NULL, refused TEXT
) STRICT;
CREATE TABLE names (account TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT;
"""

SINCE_2: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE lost (
    conversation TEXT, seq INTEGER, id TEXT, item BLOB NOT NULL, PRIMARY KEY (conversation, seq, item)
) STRICT, WITHOUT ROWID;
"""

SINCE_3: Final = """
ALTER TABLE items ADD COLUMN clear BLOB;
ALTER TABLE lost ADD COLUMN clear BLOB;
ALTER TABLE outbox ADD COLUMN clear BLOB;
ALTER TABLE outbox ADD COLUMN counts INTEGER NOT NULL DEFAULT 1;
CREATE TABLE lists (account TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;
CREATE TABLE peers (
    account TEXT, device TEXT, ed25519 TEXT NOT NULL, curve25519 TEXT NOT NULL, active INTEGER NOT NULL,
    PRIMARY KEY (account, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE linked (account TEXT, device TEXT, ed25519 TEXT NOT NULL, PRIMARY KEY (account, device))
STRICT, WITHOUT ROWID;
CREATE TABLE olm_sessions (
    account TEXT, curve25519 TEXT, session TEXT, pickle BLOB NOT NULL, used INTEGER NOT NULL,
    PRIMARY KEY (account, curve25519, session)
) STRICT, WITHOUT ROWID;
CREATE TABLE inbound_sessions (
    conversation TEXT, session TEXT, account TEXT, device TEXT, ed25519 TEXT NOT NULL,
    first_position INTEGER NOT NULL, pickle BLOB NOT NULL, PRIMARY KEY (conversation, session, account, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbound_sessions (
    conversation TEXT PRIMARY KEY, session TEXT NOT NULL, pickle BLOB NOT NULL, made_at INTEGER NOT NULL,
    messages INTEGER NOT NULL
) STRICT;
CREATE TABLE shares (
    conversation TEXT, account TEXT, device TEXT, PRIMARY KEY (conversation, account, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE seen (
    session TEXT, account TEXT, device TEXT, position INTEGER, conversation TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (session, account, device, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE undecrypted (
    conversation TEXT, seq INTEGER, session TEXT NOT NULL, reason TEXT NOT NULL, repaired INTEGER NOT NULL,
    told INTEGER NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE asked (
    conversation TEXT, session TEXT, at INTEGER NOT NULL, PRIMARY KEY (conversation, session)
) STRICT, WITHOUT ROWID;
CREATE TABLE mail (
    number INTEGER PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, messages TEXT NOT NULL
) STRICT;
"""

SINCE_4: Final = """
CREATE TABLE uploads (position INTEGER PRIMARY KEY, message TEXT NOT NULL UNIQUE, upload BLOB NOT NULL) STRICT;
CREATE TABLE uploaded (media TEXT PRIMARY KEY, file TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""

SCHEMA: Final = (FIRST, SINCE_2, SINCE_3, SINCE_4)
"""One after the other: the version of a store is how many of them it has."""
SCHEMA_VERSION: Final = len(SCHEMA)
