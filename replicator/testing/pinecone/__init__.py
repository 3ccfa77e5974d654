"""
A double of Pinecone's serverless service, for tests: the control plane's indexes, and the
vectors API of each, over HTTP, as the vendor's own client speaks it.

Nobody can start the service itself, so the double is strict: what the service is documented to
refuse it refuses, with the same status and, where they are known, the same words; what it is
documented to do late it does late. Each figure and each habit has its source beside it. Where a
source is an assumption, it says so; what was seen on the double alone is marked so where stores
are listed.

`limits` are the figures, `records` what a record may be, `filters` the filter language of
metadata, `index` a namespace's records and when a write shows, `search` the scores, `vectors`
the operations, `faults` what a test can make go wrong, `service` the HTTP.
"""
