CREATE TABLE IF NOT EXISTS collections (
    name TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    distance TEXT,
    capture_id TEXT,
    mark_epoch INTEGER NOT NULL DEFAULT 0,
    mark_incarnation INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS points (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    slot INTEGER NOT NULL,
    vector BLOB NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (collection, id)
) WITHOUT ROWID;
