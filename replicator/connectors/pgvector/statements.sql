-- name: begin_reading
-- Settings that decide what a value looks like, and that rows are hidden from nobody in silence.
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
SET LOCAL statement_timeout = {timeout_ms};
SET LOCAL TimeZone = 'UTC';
SET LOCAL IntervalStyle = 'postgres';
SET LOCAL bytea_output = 'hex';
SET LOCAL extra_float_digits = 1;
SET LOCAL row_security = off;

-- name: begin_writing
-- A session that does not wait for its commits would make receipts of what a crash takes away.
-- Joins are by the key's index: a staging table has no statistics to choose by. Whoever set the
-- database to read only, for its disk is full, is not overruled by READ WRITE. A server that
-- looks whether we are there ends what nobody waits for, and frees its locks.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = {timeout_ms};
SET LOCAL TimeZone = 'UTC';
SET LOCAL IntervalStyle = 'postgres';
SET LOCAL bytea_output = 'hex';
SET LOCAL extra_float_digits = 1;
SET LOCAL row_security = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL client_connection_check_interval = 1000;
SELECT set_config('synchronous_commit', 'on', true)
WHERE current_setting('synchronous_commit') = 'off';

-- name: extension
SELECT n.nspname AS schema, e.extversion AS version
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'

-- name: names
-- A table without vectors is nothing that a migration of all collections is after.
SELECT c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND has_table_privilege(c.oid, 'SELECT') AND EXISTS (
        SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND coalesce(nullif(t.typbasetype, 0), t.oid) IN (
                SELECT v.oid FROM pg_type v JOIN pg_extension e ON e.extnamespace = v.typnamespace
                WHERE e.extname = 'vector' AND v.typname IN ('vector', 'halfvec', 'sparsevec')
            )
    )

-- name: table
SELECT jsonb_build_object(
    'oid', c.oid::bigint,
    'kind', c.relkind,
    'parent', c.relkind = 'r' AND c.relhassubclass,
    'columns', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'name', a.attname,
            'type', b.typname,
            'place', bn.nspname,
            'array', b.typcategory = 'A',
            'modifier', CASE WHEN t.typtype = 'd' AND a.atttypmod < 0
                        THEN t.typtypmod ELSE a.atttypmod END,
            'required', a.attnotnull,
            'generated', a.attgenerated <> '',
            'counted', a.attidentity <> ''
                OR pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname)
                   IS NOT NULL,
            'exact', coalesce((
                SELECT o.collisdeterministic FROM pg_collation o WHERE o.oid = a.attcollation
            ), true),
            'comment', col_description(c.oid, a.attnum)
        ) ORDER BY a.attnum)
        FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
        JOIN pg_namespace bn ON bn.oid = b.typnamespace
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    ), '[]'),
    'indexes', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'unique', i.indisunique AND i.indimmediate,
            'primary', i.indisprimary,
            'whole', i.indisvalid AND i.indpred IS NULL,
            'columns', (
                SELECT jsonb_agg(a.attname ORDER BY k.place)
                FROM unnest(i.indkey) WITH ORDINALITY AS k(number, place)
                LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
                WHERE k.place <= i.indnkeyatts
            ),
            'method', m.amname,
            'operators', o.opcname,
            'options', coalesce(to_jsonb(ic.reloptions), '[]')
        ))
        FROM pg_index i
        JOIN pg_class ic ON ic.oid = i.indexrelid
        JOIN pg_am m ON m.oid = ic.relam
        JOIN pg_opclass o ON o.oid = i.indclass[0]
        WHERE i.indrelid = c.oid
    ), '[]')
)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')

-- name: stamp
SELECT concat_ws(' ', c.oid::text, c.xmin::text, (
    SELECT string_agg(a.xmin::text, ' ' ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
))
FROM pg_class c WHERE c.oid = to_regclass($1::text)

-- name: page
SELECT {columns} FROM {table} AS t WHERE {where} ORDER BY t.{key} LIMIT {rows}

-- name: by_id
SELECT {columns} FROM {table} AS t WHERE t.{key} = ANY($1::{type}[])

-- name: count
SELECT count(*) FROM {table} AS t WHERE {where}

-- name: pages_of
SELECT coalesce(sum(pg_relation_size(relid)), 0) / 8192
FROM (
    SELECT $1::bigint::oid::regclass AS relid
    UNION SELECT relid FROM pg_partition_tree($1::bigint::oid::regclass)
) AS parts

-- name: sample
SELECT {key} AS key FROM (
    SELECT t.{column} FROM {table} AS t TABLESAMPLE SYSTEM ({percent}) LIMIT {rows}
) AS t ORDER BY t.{column}

-- name: nearest
-- `exactly` makes of the distance an expression that no index is of.
SELECT {key} AS key, t.{column} OPERATOR({operator}) $1::text::{type} AS distance
FROM {table} AS t
WHERE t.{column} IS NOT NULL AND {where}
ORDER BY (t.{column} OPERATOR({operator}) $1::text::{type}) {exactly} LIMIT {rows}

-- name: stage
CREATE TEMP TABLE IF NOT EXISTS {staged} ({columns}) ON COMMIT DELETE ROWS

-- name: upsert
INSERT INTO {table} AS t ({names}) OVERRIDING SYSTEM VALUE
SELECT {values} FROM {staged} AS s {fields} WHERE s.gone IS NULL ORDER BY s.k
ON CONFLICT ({key}) DO UPDATE SET {changes}
RETURNING {told}

-- name: patch
UPDATE {table} AS t SET {changes} FROM {staged} AS s {fields}
WHERE t.{key} = s.k AND s.gone IS NOT NULL
RETURNING {told}

-- name: delete
DELETE FROM {table} AS t WHERE t.{key} = ANY($1::{type}[])

-- name: create_table
CREATE TABLE {table} ({columns})

-- name: comment_on_column
COMMENT ON COLUMN {column} IS {text}

-- name: create_index
CREATE INDEX ON {table} USING {method} ({column} {operators}) {options}

-- name: create_marks
CREATE TABLE IF NOT EXISTS {marks} (
    relation bigint PRIMARY KEY,
    name text NOT NULL,
    capture_id text,
    epoch bigint NOT NULL DEFAULT 0,
    incarnation bigint NOT NULL DEFAULT 0,
    made boolean NOT NULL DEFAULT false,
    finished boolean NOT NULL DEFAULT true
)

-- name: are_there_marks
SELECT to_regclass($1::text) IS NOT NULL

-- name: mark_of
SELECT capture_id, epoch, incarnation, made, finished FROM {marks} WHERE relation = $1

-- name: put_mark
INSERT INTO {marks} (relation, name, capture_id, epoch, incarnation)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (relation) DO UPDATE
SET name = $2, capture_id = $3, epoch = $4, incarnation = $5

-- name: put_made
INSERT INTO {marks} (relation, name, made, finished) VALUES ($1, $2, true, false)
ON CONFLICT (relation) DO UPDATE SET made = true, finished = false

-- name: put_finished
UPDATE {marks} SET finished = true WHERE relation = $1

-- name: take_mark
UPDATE {marks} SET capture_id = NULL, epoch = 0, incarnation = 0 WHERE relation = $1

-- name: truncate
TRUNCATE {table}

-- name: analyze
ANALYZE {table}

-- name: has_rows
SELECT EXISTS (SELECT FROM {table})

-- name: server
SELECT
    current_setting('server_version_num')::int AS version,
    pg_is_in_recovery() AS standby,
    to_regnamespace(quote_ident($1)) IS NOT NULL AS schema

-- name: may_write
SELECT
    has_database_privilege(current_database(), 'TEMP') AS temporary,
    has_schema_privilege(to_regnamespace(quote_ident($1)), 'CREATE') AS make,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS read_only

-- name: may_write_table
SELECT privilege FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
WHERE NOT has_table_privilege($1::bigint::oid, privilege)

-- name: some_fields
CASE WHEN jsonb_typeof({column}) = 'object' THEN (
    SELECT coalesce(jsonb_object_agg(e.key, e.value), '{{}}')
    FROM jsonb_each({column}) AS e WHERE e.key IN ({names})
) ELSE {column} END

-- name: columns_as_fields
-- `r` alone would be a column of that name.
(SELECT to_jsonb(r.*) FROM (SELECT {values}) AS r)

-- name: step_into_map
SELECT {value} -> {name} AS v WHERE jsonb_typeof({value}) = 'object' AND {there}

-- name: step_into_list
SELECT {value} -> {place} AS v
WHERE jsonb_typeof({value}) = 'array' AND jsonb_array_length({value}) > {place}

-- name: step_into_elements
SELECT e.v FROM jsonb_array_elements(
    CASE WHEN jsonb_typeof({value}) = 'array' THEN {value} ELSE '[]' END
) AS e(v)
