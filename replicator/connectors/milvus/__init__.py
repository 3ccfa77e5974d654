"""
Milvus over gRPC, with messages whose float vectors are bytes.

`kind` says what it is, without a driver. `wire` makes the messages, `channel` sends each once,
`failures` translates what goes wrong. Above them: `layout` tells which field of a collection is
what, and `layouts` finds it out; `field_types` are those of fields, `vectors` and `columns`
turn points into columns and back; `expressions` writes conditions, `filters` those of searches;
`ranges` and `cuts` cut the space of keys; `configuration` are the settings of collections, and
`collection` makes and marks them; `reading`, `writing` and `searching` are what is asked of
one; `store` is the connector.
"""
