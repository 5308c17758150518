-- No table may hold ids of accounts, devices or inboxes beside ids of logs.

CREATE TABLE server (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    instance BLOB NOT NULL
) STRICT;

-- The account plane.

CREATE TABLE accounts (
    num INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    opaque BLOB NOT NULL,
    vault_version INTEGER NOT NULL,
    vault BLOB NOT NULL,
    record_version INTEGER NOT NULL,
    record BLOB NOT NULL,
    signed_up_day INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    num INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
    id BLOB NOT NULL UNIQUE,
    key BLOB NOT NULL,
    inbox BLOB NOT NULL UNIQUE,
    newest_notice INTEGER NOT NULL DEFAULT 0,
    added_day INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_of_account ON devices (account);

CREATE TABLE sessions (
    digest BLOB PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
    device INTEGER REFERENCES devices ON DELETE CASCADE,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_account ON sessions (account);
CREATE INDEX sessions_of_device ON sessions (device);

CREATE TABLE packages (
    num INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices ON DELETE CASCADE,
    suite INTEGER NOT NULL,
    last_resort INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    digest BLOB NOT NULL,
    day INTEGER NOT NULL,
    UNIQUE (device, digest)
) STRICT;
CREATE INDEX packages_to_claim ON packages (device, suite, last_resort);

CREATE TABLE notices (
    device INTEGER NOT NULL REFERENCES devices ON DELETE CASCADE,
    position INTEGER NOT NULL,
    id BLOB NOT NULL,
    bytes BLOB NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (device, position),
    UNIQUE (device, id)
) STRICT, WITHOUT ROWID;

-- The open plane's logs.

CREATE TABLE logs (
    num INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    head INTEGER NOT NULL,
    newest_commit INTEGER NOT NULL,
    newest_commit_id BLOB NOT NULL
) STRICT;

-- Appended in order and nothing else, which makes an append cheap. `places` says where a log's
-- entries stand; it follows in steps of many entries, `progress.settled` tells how far.
CREATE TABLE entries (
    num INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    position INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE places (
    log INTEGER NOT NULL,
    position INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    length INTEGER NOT NULL,
    mark BLOB NOT NULL,
    PRIMARY KEY (log, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX places_by_mark ON places (log, mark);

CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    settled INTEGER NOT NULL
) STRICT;

CREATE TABLE besides (
    log INTEGER NOT NULL,
    part INTEGER NOT NULL,
    position INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (log, part, position)
) STRICT;

CREATE TABLE days (
    day INTEGER PRIMARY KEY,
    first_entry INTEGER NOT NULL
) STRICT;
