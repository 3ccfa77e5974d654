"""
The columns of a row of a file that make its payload, in the forms in use.

`payload` or `metadata`; `document` beside them is a payload field. Where a file has neither
payload nor metadata, every other column is a payload field. Where it has, another column is an
error that names it: dropped in silence, it would be missed when the store it came from is gone.
"""

from __future__ import annotations

PAYLOADS = ("payload", "metadata")
OWN = frozenset({"id", "vectors", "vector", *PAYLOADS, "document"})
"""Columns that mean something by themselves."""
_NEAR = {
    "embedding": "vector",
    "embeddings": "vectors",
    "values": "vector",
    "meta": "metadata",
    "text": "document",
}
"""Names in use elsewhere, and what they would be here."""


def why_beside(name: str) -> str:
    """Why a column cannot stand beside payload or metadata."""
    meant = _NEAR.get(name)
    return f"the column {name!r} stands beside payload or metadata, and is neither" + (
        f": did you mean {meant!r}?" if meant else "; put it inside"
    )
