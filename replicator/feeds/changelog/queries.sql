-- Every statement of the change log, by name.

-- name: describe
SELECT format FROM changes_log WHERE one = 1;

-- name: triggers
SELECT count(*) FROM sqlite_master
WHERE type = 'trigger' AND name IN ('changes_pruned', 'changes_immutable');

-- name: page
SELECT "offset", key, value, at_ms, (SELECT start FROM changes_log WHERE one = 1)
FROM changes WHERE "offset" >= :position AND "offset" < :end
ORDER BY "offset" LIMIT :limit;

-- name: bounds
SELECT
    (SELECT start FROM changes_log WHERE one = 1),
    (SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'changes'),
    EXISTS (SELECT 1 FROM changes WHERE "offset" >= :position);

-- name: identity
SELECT id FROM changes_identity WHERE one = 1;

-- name: record
SELECT key, value, at_ms FROM changes WHERE "offset" = :offset;

-- name: version
PRAGMA data_version;

-- name: append
INSERT INTO changes (key, value) VALUES (:key, :value);

-- name: publish
INSERT INTO changes_readers (name, position) VALUES (:name, :position)
ON CONFLICT (name) DO UPDATE SET position = excluded.position;

-- name: prune
DELETE FROM changes WHERE "offset" IN (
    SELECT "offset" FROM changes
    WHERE "offset" < (SELECT min(position) FROM changes_readers) AND at_ms < :before_ms
    ORDER BY "offset" LIMIT :limit
);

-- name: keep
INSERT INTO changes_dead_letters (
    key, value, headers, code, path, message, at, "partition", "offset", collection, id
) VALUES (
    :key, :value, :headers, :code, :path, :message, :at, :partition, :offset, :collection, :id
) RETURNING number;

-- name: load
SELECT key, value, headers, code, path, message, at, "partition", "offset", collection, id
FROM changes_dead_letters WHERE number = :number;
