"""
What of a collection's configuration may get lost on the way: one code a setting.

A loss blocks until the collection's `accept` names it. The code of a setting is made from the
name that its store gives it (`hnsw_config.m` is of `loss-hnsw`), so a setting that a store
learns later still has one: `loss-setting`, until it is declared here.
"""

from __future__ import annotations

_SETTINGS: dict[str, str] = {
    # how points compare: another value changes the answers
    "distance": "the distance that vectors are compared by",
    "precision": "the precision that vector components are kept in",
    "modifier": "the modifier of a sparse vector (IDF), and with it every score",
    "multivector": "how multivectors are compared",
    "sparse-index": "the index of a sparse vector: its datatype, place and threshold",
    # how a collection is searched, kept and guarded
    "hnsw": "the parameters of the HNSW index",
    "quantization": "the quantisation of vectors",
    "vector-index": "how the nearest vectors are found: HNSW, IVF or by looking at all",
    "vector-index-m": "the links of a point in the graph of vectors",
    "vector-index-ef-construction": "the candidates looked at when the graph is built",
    "vector-index-lists": "the lists of an IVF index",
    "quantization-bits": "the bits that quantisation keeps of a component",
    "on-disk": "whether vectors are kept on disk",
    "memory": "where vectors are kept",
    "strict-mode": "the limits of strict mode",
    "optimizer": "the settings of the optimisers",
    "wal": "the settings of the write-ahead log",
    "on-disk-payload": "whether payloads are kept on disk",
    "payload": "where payloads are kept",
    "id-tracker": "where the map of ids is kept",
    "metadata": "the collection's own metadata",
    # where it lies
    "shard-number": "the number of shards",
    "sharding-method": "shard keys: points of all of them lie together, under ids of their own",
    "replication-factor": "the number of replicas",
    "write-consistency-factor": "how many replicas acknowledge a write",
    "read-fan-out-factor": "how many replicas a read asks",
    "read-fan-out-delay-ms": "when a read asks a further replica",
    # payload indexes
    "index": "a payload index, or its type",
    "index-is-tenant": "whether an index is that of the tenants",
    "index-is-principal": "whether an index is the principal one",
    "index-on-disk": "whether a payload index is kept on disk",
    "index-memory": "where a payload index is kept",
    "index-enable-hnsw": "whether the HNSW graph follows a payload index",
    "index-prefix": "whether a keyword index answers prefixes",
    "index-nested": "the nested array that a payload index belongs to",
    "index-lookup": "whether an integer index answers equality",
    "index-range": "whether an integer index answers ranges",
    "index-tokenizer": "how a text index cuts words",
    "index-lowercase": "whether a text index tells upper from lower case",
    "index-ascii-folding": "whether a text index tells accented letters apart",
    "index-min-token-len": "the shortest word of a text index",
    "index-max-token-len": "the longest word of a text index",
    "index-stopwords": "the stopwords of a text index",
    "index-stemmer": "the stemming of a text index",
    "index-phrase-matching": "whether a text index answers phrases",
    "index-scoring": "the scoring of a text index",
    # and what this release does not know
    "setting": "a setting that this release does not know, which the message names",
}

LOSSES: dict[str, str] = {
    f"loss-{name}": f"Lost: {what}. Accept it by name in the collection's `accept`, or make the"
    " target collection by hand with it."
    for name, what in _SETTINGS.items()
}
"""Code → what is lost, and what can be done."""

CONVERSIONS: dict[str, str] = {
    "nested-as-json": "Nothing: no value is lost. A filter on what is within such a value finds"
    " nothing at the target; keep what is searched for at the top level.",
}
"""Code → what to know of a value that the target holds in another form. Nothing is lost, so
that `check` informs of it."""

RESULTS_CHANGE = frozenset(
    f"loss-{name}"
    for name in (
        *("distance", "precision", "modifier", "multivector"),
        *("index-tokenizer", "index-lowercase", "index-ascii-folding", "index-min-token-len"),
        *("index-max-token-len", "index-stopwords", "index-stemmer", "index-phrase-matching"),
        *("index-scoring", "index-nested", "sharding-method"),
    )
)
"""Those after which the same question may have another answer."""


def loss_code(setting: str, group: str = "") -> str:
    """The code of a setting by its store's name, of a collection, a vector or an `index`."""
    name = setting.removesuffix("_config").replace("_", "-")
    code = f"loss-{group}-{name}" if group else f"loss-{name}"
    if name == "index" and not group:
        code = "loss-sparse-index"
    return code if code in LOSSES else "loss-setting"
