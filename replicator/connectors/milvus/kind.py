"""Milvus as a kind of store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec

from replicator.model.schema import IdKinds, IdLimits, Precision, VectorKind
from replicator.model.traits import IdRules, Limits, Traits, VectorRules
from replicator.ports.kind import StoreKind
from replicator.settings.credentials import why_not_sent
from replicator.settings.rules import why_below, why_no_url
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration, Secret, Size

if TYPE_CHECKING:
    from replicator.ports.store import Store

_PORT, _TLS_PORT = 19_530, 443
DEFAULT_DATABASE = "default"

NAME_CHARS_MAX = 255
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

REQUEST_BYTES = 64 << 20
"""Of a request that writes. This figure, and those below that name no other source: the
vendor's page of limits (milvus.io/docs/limitations.md, 2.6)."""


class MilvusOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which fields of a collection are what, where it does not say so itself."""

    partition: str = ""
    """Read and write this partition alone. Needed where a collection has several that were made
    by hand, for a key is unique only within one."""
    payload_field: str = ""
    """The JSON field that is the whole payload; other fields are then nothing of a point. When
    empty, every field that is neither key nor vector is a field of the payload, and so is what
    the dynamic field holds; a JSON field `payload` that is the only one is all of it."""
    vectors: dict[str, str] = {}
    """Field → name of the vector. When empty, every vector field has its own name, and a single
    one has none."""
    distance: Literal["", "cosine", "dot", "euclid"] = ""
    """By what vectors are compared, where no index of their field says so."""


class MilvusSettings(StoreSettings, tag="milvus", tag_field="kind", frozen=True):
    """
    A Milvus server (2.5 or newer) over gRPC. Seen on milvus-lite only, which is no whole
    Milvus: partitions, half-float vectors and reads at a fixed moment were not tried.

    A collection that the replicator makes has `id`, a field a vector, and `payload` as JSON;
    every upsert replaces it. A collection that is not loaded is loaded when it is read, for
    Milvus reads no other. Keys that Milvus makes itself (autoID) can be read, not written.
    Every read asks for the level Strong.
    """

    options = MilvusOptions
    examples = {"token": '"user:password"'}  # noqa: RUF012 - a ClassVar
    uri: str = "http://localhost:19530"
    """Address of the server; `https://` for TLS."""
    token: Secret = Secret("")
    """`user:password`, or an API key of a cloud."""
    database: str = DEFAULT_DATABASE
    """The database that the collections are in."""
    ca_file: str = ""
    """CA certificates, in PEM, that the server's certificate is checked with; the system's when
    empty."""
    timeout: Duration = Duration(60)
    """How long the server may take over one request, and over loading a collection. A client's
    deadline cancels nothing that is on its way into the log of the server."""
    late_write_bound: Duration = Duration(60)
    """How long after a lost reply a write may still land. Half of it risks that an old write
    overtakes a new one; twice it only slows recovery after lost replies."""
    json_bytes_max: Size = Size(65_536)
    """What a JSON field holds, as the server has it (`common.JSONMaxLength`)."""

    def address(self) -> str:
        """Host, port and database."""
        parts = urlsplit(self.uri)
        host = "localhost" if parts.hostname == "127.0.0.1" else parts.hostname
        return f"{host}:{port_of(self.uri)}/{self.database}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings. What gRPC would leave out without a word is refused."""
        if why := why_no_url(self.uri):
            yield "uri", why
        else:
            parts = urlsplit(self.uri)
            if "@" in parts.netloc:
                yield "uri", "holds a user or password; use token"
            if parts.path.strip("/") or parts.query or parts.fragment:
                yield "uri", "has a path or a query, which gRPC does not use; name `database`"
        if why := _why_no_name(self.database):
            yield "database", why
        if why := why_not_sent(self.token.reveal()):
            yield "token", why
        if why := why_below(self.timeout, 0.001):
            yield "timeout", why

    def unfit(self, collection: str) -> str | None:
        """Names that no collection has."""
        return _why_no_name(collection)


def port_of(uri: str) -> int:
    """The port, or that which the vendor's clients take: clouds are at that of TLS."""
    parts = urlsplit(uri)
    return parts.port or (_TLS_PORT if parts.scheme == "https" else _PORT)


def is_name(text: str) -> bool:
    """Whether a collection or a field can be called so."""
    return len(text) <= NAME_CHARS_MAX and _NAME.fullmatch(text) is not None


def _why_no_name(name: str) -> str | None:
    if is_name(name):
        return None
    close = re.sub(r"[^A-Za-z0-9_]", "_", name)[:NAME_CHARS_MAX]
    proposed = f"; {close!r} would be one" if is_name(close) else ""
    return (
        f"is no name for Milvus, which has letters, digits and underscores{proposed}"
        if name
        else "is empty"
    )


def _open(settings: MilvusSettings, page_bytes: int) -> Store:
    from replicator.connectors.milvus.store import MilvusStore  # noqa: PLC0415 - see StoreKind

    return MilvusStore(settings, page_bytes)


MILVUS = StoreKind(
    settings=MilvusSettings,
    traits=Traits(
        ids=IdRules(
            kinds=IdKinds.UINT64 | IdKinds.STRING,
            # Int64, but for the least one: a condition spells it as a minus and a number that
            # is none of 64 bits.
            limits=IdLimits(
                integer_min=-(1 << 63) + 1, integer_max=(1 << 63) - 1, text_bytes_max=512
            ),
            mixed=False,
        ),
        vectors=VectorRules(
            kinds=frozenset({VectorKind.DENSE, VectorKind.SPARSE}),
            several=True,
            partial=False,  # nullable vectors came late (2.6); what a person made may have some
            precisions=frozenset({Precision.FLOAT32, Precision.FLOAT16}),
            dimensions_max=32_768,
            sparse_dimensions_max=(1 << 32) - 1,
            negative=False,
        ),
        # Half of what a request may carry, for what it carries is known only about.
        limits=Limits(bytes_max=REQUEST_BYTES // 2),
        marks=True,
        patches=False,
    ),
    example="""\
kind = "milvus"
uri = "http://localhost:19530"
#token = "${{{side}_TOKEN}}"                    # user:password, or an API key
#database = "default"
""",
    open=_open,
)
