-- The open plane. Nothing here may name an account, a device or an inbox.

CREATE TABLE server (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    instance BLOB NOT NULL,
    counter INTEGER NOT NULL
) STRICT;

-- What the password protocol's seed left here; see seed_mark.rs.
CREATE TABLE seed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    mark BLOB NOT NULL
) STRICT;

CREATE TABLE logs (
    num INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    head INTEGER NOT NULL,
    newest_commit INTEGER NOT NULL,
    newest_commit_id BLOB NOT NULL,
    running BLOB NOT NULL,
    day INTEGER NOT NULL,
    held INTEGER NOT NULL
) STRICT;

-- Appended in order and nothing else, which makes an append cheap. `places` says where a log's
-- entries are; it follows in steps of many entries, `progress.settled` tells how far. A row there
-- outlives its entry, which expires if it is a message; `progress.expired` tells how far that is.
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
    flags INTEGER NOT NULL,
    length INTEGER NOT NULL,
    id BLOB NOT NULL,
    running BLOB NOT NULL,
    PRIMARY KEY (log, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    settled INTEGER NOT NULL,
    expired INTEGER NOT NULL
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

-- Logs that are gone and whose rows are being deleted.
CREATE TABLE doomed (
    log INTEGER PRIMARY KEY
) STRICT;
