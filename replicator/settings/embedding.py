"""Settings of embeddings: vectors that are made anew, and which models made those there are."""

from __future__ import annotations

from typing import Literal

import msgspec


class EmbedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One vector of the target, made anew from texts of the source's payload. What came as a
    vector of this name does not travel.
    """

    function: str
    """`module:name` of what makes vectors of texts: given a list of str, it returns as many
    vectors, in their order. `async def` or not; what is not runs in a thread."""
    fields: list[str]
    """Payload fields of the source, joined by a line break in this order. One that is absent,
    null or blank is left out."""
    size: int
    """Dimensions of what the function returns."""
    distance: Literal["cosine", "dot", "euclid", "manhattan"] = "cosine"
    """How the new vectors are compared."""
    missing: Literal["reject", "omit"] = "reject"
    """What becomes of a point none of whose fields holds a text. `reject`: a dead letter.
    `omit`: it travels without this vector."""
    batch: int = 64
    """Texts of one call."""
    parallel: int = 1
    """Calls under way at once."""
    rate_max: float = 0.0
    """Texts a second; 0 for no limit."""
    cost: float = 0.0
    """Of a million characters, in any currency; `replicator plan` says what all would cost."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What made a side's vectors. What is not given is not compared."""

    model: str
    """Its name, as its maker writes it."""
    provider: str = ""
    """Who runs it."""
    version: str = ""
    """Its version or revision."""
    dimension: int = 0
    """How long its vectors are."""
    metric: Literal["", "cosine", "dot", "euclid", "manhattan"] = ""
    """How they are compared."""
    normalised: bool | None = None
    """Whether they have length one."""
    preprocessing: str = ""
    """What is done to a text before, in words of your own."""


class ContractSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The embedding contract: which models made the vectors of either side. Where the two differ,
    vectors that travel as they are would be searched by queries of another model, and are
    refused.
    """

    source: ModelSettings | None = None
    """What made the vectors that the source holds."""
    target: ModelSettings | None = None
    """What makes the queries that the target will be asked, and the vectors made anew."""
    vectors: list[str] | None = None
    """Which vectors it speaks of, by their names at the target; all where it is absent."""
