"""
Qdrant over gRPC.

`kind` says what it is, without a driver. `wire` has the messages, with vectors as bytes;
`values` and `points` translate between them and the neutral model; `batch` turns a WriteBatch
into operations; `schema` describes and creates collections, `bulk` remembers deferred indexing
in their metadata; `ranges` cuts the id space into chunks; `filters` reads the filters of
searches; `channel` makes calls and `failures` translates what goes wrong; `store` is the
connector, whose import loads grpc and protobuf.
"""
