-- Which log the positions are of, and where letters arose.

-- The last record applied of each partition, so that a log made anew is not taken for ours.
CREATE TABLE bookmarks (
    partition TEXT PRIMARY KEY NOT NULL,
    log_offset INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    digest TEXT NOT NULL
) WITHOUT ROWID;

-- A letter is settled by an event of its own direction only.
ALTER TABLE letters ADD COLUMN direction TEXT NOT NULL DEFAULT 'forward'
    CHECK (direction IN ('forward', 'reverse'));

-- In a reverse window, what lies behind the last switch arose there.
UPDATE letters SET direction = 'reverse'
WHERE attempt = (SELECT attempt FROM migration) AND log_offset >= (
    SELECT vector.value FROM migration
    CROSS JOIN json_each(migration.record, '$.fence_vector') AS vector
    WHERE json_extract(migration.record, '$.direction') = 'reverse'
        AND vector.key = letters.partition
);

-- What tells a copied row without an id from others, for it has neither place nor key.
ALTER TABLE letters ADD COLUMN row_digest TEXT;

CREATE INDEX letters_by_row ON letters (attempt, row_digest) WHERE row_digest IS NOT NULL;

CREATE INDEX letters_by_direction ON letters (direction, state);
