-- The account plane. Nothing here may name a log, and no number may count up over all rows: the
-- order in which accounts, devices and packages came would link them to logs, which are in order.
-- Numbers are random; days are rounded down to weeks.

CREATE TABLE server (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    instance BLOB NOT NULL,
    counter INTEGER NOT NULL,
    alive INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What the password protocol's seed left here; see seed_mark.rs.
CREATE TABLE seed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    mark BLOB NOT NULL
) STRICT;

CREATE TABLE accounts (
    num INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    identity_key BLOB NOT NULL,
    opaque BLOB NOT NULL,
    vault_version INTEGER NOT NULL,
    vault BLOB NOT NULL,
    record_version INTEGER NOT NULL,
    record BLOB NOT NULL,
    signed_up_day INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    num INTEGER PRIMARY KEY,
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
CREATE INDEX sessions_by_end ON sessions (expires);

CREATE TABLE packages (
    device INTEGER NOT NULL REFERENCES devices ON DELETE CASCADE,
    digest BLOB NOT NULL,
    suite INTEGER NOT NULL,
    last_resort INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (device, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX packages_to_claim ON packages (device, suite, last_resort, day);
CREATE INDEX packages_by_day ON packages (day);

-- What notices may be for: each package that was uploaded, held or handed out.
CREATE TABLE uploads (
    device INTEGER NOT NULL REFERENCES devices ON DELETE CASCADE,
    digest BLOB NOT NULL,
    last_resort INTEGER NOT NULL,
    notices INTEGER NOT NULL DEFAULT 0,
    day INTEGER NOT NULL,
    PRIMARY KEY (device, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_by_day ON uploads (day);

CREATE TABLE notices (
    device INTEGER NOT NULL REFERENCES devices ON DELETE CASCADE,
    position INTEGER NOT NULL,
    id BLOB NOT NULL,
    bytes BLOB NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (device, position),
    UNIQUE (device, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_by_day ON notices (day);
