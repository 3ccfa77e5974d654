"""
Weaviate, over gRPC and REST.

`kind` says what it is, without a driver. `messages` declares what is said by gRPC, `channel`
makes calls there and `rest` requests for what only REST has; `failures` translates what goes
wrong in either. `classes` reads the document of a class, `configuration` tells its settings in
neutral words and back, `values` turns fields into properties, `objects` points into objects.
`tenants` are the scopes. Above them stand `collection` (find, make, mark, empty), `ranges` and
`reading`, `writing`, `filters` and `searching`, `outlook` (what stands in the way) and `store`,
the connector.
"""
