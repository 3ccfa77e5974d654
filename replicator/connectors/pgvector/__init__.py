"""
PostgreSQL with pgvector.

`kind` says what it is, without a driver. `statements` holds the SQL by name, `connections` the
transactions it runs in, and `failures` translates what goes wrong in one. `catalogue` reads
what a table is made of; `table` tells which column is the key, which are vectors and what the
payload is, and `tables` remembers it. `vectors` turns vectors into pgvector's binary forms and
back, `rows` rows into points, `staging` writes into a binary `COPY`. `ranges` cuts a table by
its key. Above them stand `reading`, `writing`, `filters`, `searching`, `collection` (make,
mark, wipe), `indexes`, `outlook` (what stands in the way) and `store`, the connector.
"""
