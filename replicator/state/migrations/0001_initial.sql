-- The first shape of the state. Event keys are JSON text, `["articles",5]`, so that the integer
-- 5 and the string "5" stay two keys and integers above 2^63 survive.

CREATE TABLE migration (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    attempt INTEGER NOT NULL,
    record TEXT NOT NULL
);

CREATE TABLE journal (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entry TEXT NOT NULL
);

-- No row means that nothing ever ran on this state, so nothing can be in flight.
CREATE TABLE run (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    clean INTEGER NOT NULL CHECK (clean IN (0, 1))
);

CREATE TABLE positions (
    partition TEXT PRIMARY KEY NOT NULL,
    position INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE chunks (
    collection TEXT NOT NULL,
    number INTEGER NOT NULL,
    spec TEXT NOT NULL,
    cursor TEXT,
    copied INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    PRIMARY KEY (collection, number)
) WITHOUT ROWID;

CREATE TABLE findings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at REAL NOT NULL
);

CREATE TABLE documents (
    name TEXT PRIMARY KEY NOT NULL,
    document BLOB NOT NULL
) WITHOUT ROWID;

-- A letter's place in the log is its identity within one attempt: after an abort the topic may
-- have been made anew, and the same offset be another record.
CREATE TABLE letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    attempt INTEGER NOT NULL,
    ref TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'settled', 'discarded')),
    code TEXT NOT NULL,
    path TEXT NOT NULL,
    message TEXT NOT NULL,
    at REAL NOT NULL,
    partition TEXT,
    log_offset INTEGER,
    event_key TEXT,
    closed_by TEXT
);

CREATE UNIQUE INDEX letters_by_place ON letters (attempt, partition, log_offset)
WHERE partition IS NOT NULL;

CREATE INDEX letters_open_by_key ON letters (event_key) WHERE state = 'open';

CREATE INDEX letters_by_state ON letters (state, number);
