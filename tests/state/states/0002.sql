BEGIN TRANSACTION;
CREATE TABLE bookmarks (
    partition TEXT PRIMARY KEY NOT NULL,
    log_offset INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    digest TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "bookmarks" VALUES('articles.changes/0',43,1764199999000,'d0');
CREATE TABLE chunks (
    collection TEXT NOT NULL,
    number INTEGER NOT NULL,
    spec TEXT NOT NULL,
    cursor TEXT,
    copied INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    PRIMARY KEY (collection, number)
) WITHOUT ROWID;
INSERT INTO "chunks" VALUES('articles',0,'{"from": 0}','499',500,1);
INSERT INTO "chunks" VALUES('articles',1,'{"from": 500}','620 ä',120,0);
CREATE TABLE documents (
    name TEXT PRIMARY KEY NOT NULL,
    document BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO "documents" VALUES('verification',X'7B2267656E65726174696F6E223A20337D');
CREATE TABLE findings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at REAL NOT NULL
);
INSERT INTO "findings" VALUES(1,'["articles",7]','missing','',3,1764200001.0);
INSERT INTO "findings" VALUES(2,'["articles","7"]','different','payload.year',3,1764200001.0);
CREATE TABLE journal (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entry TEXT NOT NULL
);
INSERT INTO "journal" VALUES(1,'{"at":1764200000.0,"phase":"PLANNED","direction":"reverse","step":"phase","message":"planned","evidence":{}}');
INSERT INTO "journal" VALUES(2,'{"at":1764200000.0,"phase":"BLOCKED","direction":"reverse","step":"phase","message":"the topic''s partition count changed","evidence":{"vector":{"articles.changes/0":40,"articles.changes/1":12}}}');
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
, direction TEXT NOT NULL DEFAULT 'forward'
    CHECK (direction IN ('forward', 'reverse')), row_digest TEXT);
INSERT INTO "letters" VALUES(1,2,'articles.changes.dead-letters/0/5','open','vector-dimension','vectors.text','3 numbers, not 4',1764200000.5,'articles.changes/0',9,'["articles",7]',NULL,'forward',NULL);
INSERT INTO "letters" VALUES(2,2,'articles.changes.dead-letters/0/6','open','vector-dimension','vectors.text','3 numbers, not 4',1764200000.5,'articles.changes/0',41,'["articles","\u00fc/1"]',NULL,'reverse',NULL);
INSERT INTO "letters" VALUES(3,2,'articles.changes.dead-letters/0/7','open','vector-dimension','vectors.text','3 numbers, not 4',1764200000.5,NULL,NULL,'["articles",18446744073709551615]',NULL,'forward',NULL);
INSERT INTO "letters" VALUES(4,2,'articles.changes.dead-letters/0/8','discarded','vector-dimension','vectors.text','3 numbers, not 4',1764200000.5,'articles.changes/1',5,NULL,'a person','forward',NULL);
CREATE TABLE migration (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    attempt INTEGER NOT NULL,
    record TEXT NOT NULL
);
INSERT INTO "migration" VALUES(1,2,'{"name":"articles","attempt":2,"phase":"BLOCKED","direction":"reverse","paused":false,"epoch":0,"epochs":{"current":1,"offered":1,"ends":[{"epoch":0,"vector":{"articles.changes/0":40,"articles.changes/1":12},"moved":true}],"denied":[]},"tries":2,"since":1764200000.0,"reason":"the topic''s partition count changed","reason_code":"partitions-changed","capture":{"id":"c0ffee","positions":{"articles.changes/0":3,"articles.changes/1":0},"partitions":2,"at":1764100001.5},"fingerprint":"f1","replay_until":{"articles.changes/0":10,"articles.changes/1":2},"fence_vector":{"articles.changes/0":40,"articles.changes/1":12},"back_to":"STREAMING","blocked_from":null,"shown_epoch":null,"fence_closed":false,"fenced_at":null,"facts":[{"code":"fence-lapsed","message":"the fence''s deadline passed","at":1764200000.0,"evidence":{"attempt":"c0ffee/2"}}],"voided":1,"incarnation":17,"log":{"id":"kafka-topic-1"},"collections":{"source/articles":"articles","target/articles_v2":"articles_v2_a"}}');
CREATE TABLE positions (
    partition TEXT PRIMARY KEY NOT NULL,
    position INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "positions" VALUES('articles.changes/0',44);
INSERT INTO "positions" VALUES('articles.changes/1',12);
CREATE TABLE run (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    clean INTEGER NOT NULL CHECK (clean IN (0, 1))
);
INSERT INTO "run" VALUES(1,0);
CREATE UNIQUE INDEX letters_by_place ON letters (attempt, partition, log_offset)
WHERE partition IS NOT NULL;
CREATE INDEX letters_open_by_key ON letters (event_key) WHERE state = 'open';
CREATE INDEX letters_by_state ON letters (state, number);
CREATE INDEX letters_by_row ON letters (attempt, row_digest) WHERE row_digest IS NOT NULL;
CREATE INDEX letters_by_direction ON letters (direction, state);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('journal',2);
INSERT INTO "sqlite_sequence" VALUES('findings',2);
INSERT INTO "sqlite_sequence" VALUES('letters',4);
PRAGMA application_id = 1987208560;
PRAGMA user_version = 2;
COMMIT;
