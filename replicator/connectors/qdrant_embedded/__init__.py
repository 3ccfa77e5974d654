"""
Qdrant in a folder, without a server: the shards of Qdrant's engine.

`kind` says what it is, without a driver. `folder` looks at what lies there, and `shard` holds
one collection: opened once, made as a whole or not at all, with a file of ours for the mark.
`configuration`, `neutral` and `indexes` translate what the engine says of a shard, `points` its
points; `reading` reads them. `store` is the connector, whose import loads the engine.
"""
