"""
The two schemas of the demonstration, and the way from one to the other as the *application*
knows it.

The same mapping is given to the replicator as settings, in `demo.config`. It is written twice
on purpose: the application and the oracle use this one, so that a wrong transform in the
replicator shows as a difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replicator.demo.corpus import Document

SOURCE = "docs"
TARGET = "docs_v2"
SOURCE_VECTOR = ""
TARGET_VECTOR = "text"
TARGET_SCHEMA = 2

Vector = npt.NDArray[np.float32]
"""`DIMENSION` little-endian float32."""
Payload = dict[str, Any]


def source_payload(document: Document) -> Payload:
    """The payload of a new document, in the source's terms."""
    return {
        "name": document.name,
        "module": document.module,
        "kind": document.kind,
        "visibility": "private" if document.private else "public",
        "text": document.text,
        "size": str(len(document.text)),
        "rank": 1.0 / (1 + len(document.name)),
        "edits": 0,
    }


def belongs_at_target(payload: Payload) -> bool:
    """Whether a document, in the source's terms, is one that the target holds."""
    return payload.get("visibility") == "public"


def target_fields(fields: Payload) -> Payload:
    """Some payload fields in the target's terms: a field renamed, another one cast."""
    renamed = {"title" if name == "name" else name: value for name, value in fields.items()}
    if "size" in renamed:
        renamed["size"] = int(renamed["size"])
    return renamed


def target_payload(payload: Payload) -> Payload:
    """A whole payload in the target's terms."""
    return {**target_fields(payload), "schema": TARGET_SCHEMA}
