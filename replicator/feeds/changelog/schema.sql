-- The change log, format 1. A public contract: docs/changelog-format.md says what each part means.

CREATE TABLE IF NOT EXISTS changes (
    "offset" INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB CHECK (typeof(key) IN ('blob', 'text', 'null')),
    value BLOB CHECK (typeof(value) IN ('blob', 'text', 'null')),
    at_ms INTEGER NOT NULL
        DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
);

CREATE TABLE IF NOT EXISTS changes_log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    start INTEGER NOT NULL
);

INSERT OR IGNORE INTO changes_log (one, format, start) VALUES (1, 1, 1);

CREATE TABLE IF NOT EXISTS changes_identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL
);

INSERT OR IGNORE INTO changes_identity (one, id) VALUES (1, lower(hex(randomblob(16))));

CREATE TABLE IF NOT EXISTS changes_readers (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS changes_dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB,
    value BLOB,
    headers BLOB NOT NULL,
    code TEXT NOT NULL,
    path TEXT NOT NULL,
    message TEXT NOT NULL,
    at REAL NOT NULL,
    "partition" TEXT,
    "offset" INTEGER,
    collection TEXT,
    id TEXT
);

CREATE TRIGGER IF NOT EXISTS changes_pruned AFTER DELETE ON changes
BEGIN
    UPDATE changes_log SET start = OLD."offset" + 1 WHERE start <= OLD."offset";
END;

CREATE TRIGGER IF NOT EXISTS changes_immutable BEFORE UPDATE ON changes
BEGIN
    SELECT RAISE(ABORT, 'rows of changes are never updated');
END;
