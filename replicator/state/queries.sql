-- Every statement of the state store, by name.

-- name: load
SELECT record FROM migration;

-- name: revision
SELECT coalesce(max(revision), 0) FROM migration;

-- name: save
INSERT INTO migration (one, attempt, revision, record)
VALUES (1, :attempt, :revision, :record)
ON CONFLICT (one) DO UPDATE
SET attempt = excluded.attempt, revision = excluded.revision, record = excluded.record;

-- name: note
INSERT INTO journal (entry) VALUES (:entry);

-- name: journal
SELECT entry FROM (SELECT number, entry FROM journal ORDER BY number DESC LIMIT :limit)
ORDER BY number;

-- name: forget_positions
DELETE FROM positions;

-- name: forget_bookmarks
DELETE FROM bookmarks;

-- name: forget_chunks
DELETE FROM chunks;

-- name: forget_findings
DELETE FROM findings;

-- name: forget_documents
DELETE FROM documents;

-- name: forget_open_letters
DELETE FROM letters WHERE state = 'open';

-- name: was_clean
SELECT clean FROM run;

-- name: mark
INSERT INTO run (one, clean) VALUES (1, :clean)
ON CONFLICT (one) DO UPDATE SET clean = excluded.clean;

-- name: positions
SELECT partition, position FROM positions;

-- name: commit
INSERT INTO positions (partition, position)
SELECT key, value FROM json_each(:positions) WHERE true
ON CONFLICT (partition) DO UPDATE SET position = excluded.position;

-- name: bookmarks
SELECT partition, log_offset, at_ms, digest FROM bookmarks;

-- name: mark_place
INSERT INTO bookmarks (partition, log_offset, at_ms, digest)
SELECT
    key, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(:bookmarks) WHERE true
ON CONFLICT (partition) DO UPDATE
SET log_offset = excluded.log_offset, at_ms = excluded.at_ms, digest = excluded.digest;

-- name: any_open_letter
SELECT EXISTS (SELECT 1 FROM letters WHERE state = 'open');

-- name: settle
-- CROSS JOIN and INDEXED BY: the planner would read all open letters for each key.
UPDATE letters SET state = 'settled', closed_by = 'a later event' WHERE number IN (
    SELECT open.number FROM json_each(:below) AS later
    CROSS JOIN letters AS open INDEXED BY letters_open_by_key
    WHERE open.state = 'open' AND open.event_key = later.key
        AND open.direction = coalesce(:direction, open.direction)
        AND (
            open.partition IS NULL
            OR open.partition = json_extract(later.value, '$[0]')
            AND open.log_offset < json_extract(later.value, '$[1]')
        )
);

-- name: has_chunks
SELECT EXISTS (SELECT 1 FROM chunks WHERE collection = :collection);

-- name: add_chunk
INSERT INTO chunks (collection, number, spec) VALUES (:collection, :number, :spec);

-- name: chunks
SELECT number, collection, spec, cursor, copied, done FROM chunks ORDER BY collection, number;

-- name: advance
UPDATE chunks SET cursor = :cursor, copied = :copied, done = :done
WHERE collection = :collection AND number = :number;

-- name: add_finding
INSERT INTO findings (event_key, kind, detail, generation, at)
VALUES (:event_key, :kind, :detail, :generation, :at)
ON CONFLICT (event_key) DO UPDATE
SET kind = excluded.kind, detail = excluded.detail,
    generation = excluded.generation, at = excluded.at;

-- name: clear_findings
DELETE FROM findings WHERE event_key IN (SELECT value FROM json_each(:keys));

-- name: findings
SELECT number, event_key, kind, detail, generation, at FROM findings
WHERE number > :after ORDER BY number LIMIT :limit;

-- name: finding_counts
SELECT kind, count(*) FROM findings GROUP BY kind;

-- name: put
INSERT INTO documents (name, document) VALUES (:name, :document)
ON CONFLICT (name) DO UPDATE SET document = excluded.document;

-- name: get
SELECT document FROM documents WHERE name = :name;

-- name: attempt
SELECT attempt FROM migration;

-- name: letter_at_place
SELECT number, state FROM letters
WHERE attempt = :attempt AND partition = :partition AND log_offset = :log_offset;

-- name: open_row_letter
SELECT number, state FROM letters
WHERE state = 'open' AND event_key = :event_key AND partition IS NULL;

-- name: letter_of_row
SELECT number, state FROM letters WHERE attempt = :attempt AND row_digest = :row_digest;

-- name: add_letter
INSERT INTO letters (
    attempt, ref, state, code, path, message, at, partition, log_offset, event_key,
    direction, row_digest
) VALUES (
    :attempt, :ref, 'open', :code, :path, :message, :at, :partition, :log_offset, :event_key,
    :direction, :row_digest
);

-- name: reopen_letter
UPDATE letters
SET state = 'open', ref = :ref, code = :code, path = :path, message = :message, at = :at,
    event_key = :event_key, direction = :direction, closed_by = NULL
WHERE number = :number;

-- name: letters
SELECT number, ref, state, code, path, message, at, partition, log_offset, event_key, direction
FROM letters WHERE number > :after ORDER BY number LIMIT :limit;

-- name: letters_in_state
SELECT number, ref, state, code, path, message, at, partition, log_offset, event_key, direction
FROM letters WHERE state = :state AND number > :after ORDER BY number LIMIT :limit;

-- name: letter
SELECT number, ref, state, code, path, message, at, partition, log_offset, event_key, direction
FROM letters WHERE number = :number;

-- name: letters_of
SELECT number, ref, state, code, path, message, at, partition, log_offset, event_key, direction
FROM letters INDEXED BY letters_open_by_key
WHERE state = 'open' AND event_key IN (SELECT value FROM json_each(:keys)) ORDER BY number;

-- name: letter_counts
SELECT state, count(*) FROM letters GROUP BY state;

-- name: letter_counts_of
SELECT state, count(*) FROM letters WHERE direction = :direction GROUP BY state;

-- name: close_letters
UPDATE letters SET state = :state, closed_by = :closed_by
WHERE state = 'open' AND number IN (SELECT value FROM json_each(:numbers));
