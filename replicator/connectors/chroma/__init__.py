"""
Chroma, over HTTP or as a folder.

`kind` says what it is, without a driver. `api` is what is asked of Chroma; `http` asks a server
and `embedded` the engine in this process; `failures` translates what goes wrong at a server.
Above them nobody knows which of the two it is: `points` translates records; `collection`
describes and creates collections and keeps our mark in their metadata, `configuration` their
settings; `reading` scans from the
youngest record to the oldest; `writing` makes replacements of upserts that merge; `store` is
the connector.
"""
