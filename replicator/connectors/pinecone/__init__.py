"""
Pinecone: the namespaces of one serverless index, over the vendor's own client.

`kind` says what it is, without a driver. `index` is what is asked of the service, each request
once and at the service's pace; `failures` translates what goes wrong there. Above them:
`records` translates records; `collection` describes and makes namespaces; `prefixes` cuts the
ids that there can be, and `reading` lists them and fetches what they hold; `writing` cuts a
batch to requests; `filters` translates those of searches; `store` is the connector.
"""
