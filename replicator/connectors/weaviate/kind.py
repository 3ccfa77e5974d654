"""Weaviate as a kind of store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec

from replicator.model.schema import IdKinds, VectorKind
from replicator.model.traits import IdRules, Limits, PayloadRules, Traits, VectorRules
from replicator.ports.kind import StoreKind, UrlForm
from replicator.settings.credentials import why_not_sent
from replicator.settings.rules import why_below, why_no_url
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration, Secret

if TYPE_CHECKING:
    from replicator.ports.store import Store

GRPC_PORT = 50051

_CLASS = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")


class WeaviateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the points of a class are kept, where it does not say so itself."""

    payload: str = ""
    """The text property that holds, as JSON, every field that no property of its own can hold.
    When empty: the one that the replicator made, or none."""
    properties: dict[str, str] = {}
    """Properties of a class that the replicator makes: field → Weaviate's type (`text`,
    `int[]`, `date`…). The fields that the source has indexes of are properties unnamed."""
    activate: bool = False
    """Activate tenants that are inactive to read them, each for as long as it is read, and
    deactivate them again. One that is read when the process dies stays active."""


class WeaviateSettings(StoreSettings, tag="weaviate", tag_field="kind", frozen=True):
    """
    Weaviate 1.30 or newer; a collection is a class, whose name begins with a capital letter,
    and a scope a tenant.

    A field of the payload is a property where the class has one of its name that holds the
    value as it is; every other field stands in one text property, as JSON. A class that has no
    such property holds nothing else. No property is ever added to a class that is there. A
    class with the one vector `default` has it without a name.
    """

    options = WeaviateOptions
    url: str = "http://localhost:8080"
    """Address of the REST port; `https://` for TLS."""
    grpc_url: str = ""
    """Address of the gRPC port; port 50051 of the same host when empty. A cluster in the
    vendor's cloud names one of its own: `https://grpc-….weaviate.cloud:443`."""
    api_key: Secret = Secret("")
    """API key, if the server asks for one."""
    consistency: Literal["one", "quorum", "all"] = "all"
    """How many replicas a write must reach. A search asks one replica of each shard, so that
    with less than `all` it may lack what was written: set `staleness` then."""
    timeout: Duration = Duration(60)
    """How long the server may take over one request."""
    late_write_bound: Duration = Duration(60)
    """How long after a lost reply a write may still land. Half of it risks that an old write
    overtakes a new one; twice it only slows recovery after lost replies."""
    staleness: Duration = Duration(0)
    """How long a read may lag a write. 0 where every replica is written; see `consistency`."""

    def address(self) -> str:
        """Host and port of the REST interface, and the path of a proxy."""
        parts = urlsplit(self.url)
        host = "localhost" if parts.hostname == "127.0.0.1" else parts.hostname
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{host}:{port}{parts.path.rstrip('/')}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        for name in ("url", "grpc_url"):
            url = getattr(self, name)
            if name == "grpc_url" and not url:
                continue
            if why := why_no_url(url):
                yield name, why
            elif "@" in urlsplit(url).netloc:
                yield name, "holds a user or password, which is not sent; use api_key"
            elif name == "grpc_url" and urlsplit(url).path.strip("/"):
                yield name, "has a path, which gRPC does not use"
        if why := why_not_sent(self.api_key.reveal()):
            yield "api_key", why
        if why := why_below(self.timeout, 0.001):
            yield "timeout", why

    def unfit(self, collection: str) -> str | None:
        """Names that no class can have."""
        if _CLASS.fullmatch(collection):
            return None
        likely = collection[:1].upper() + collection[1:]
        if _CLASS.fullmatch(likely):
            return f"begins with no capital letter, as a class of Weaviate does: {likely!r}"
        return (
            "is no name of a class of Weaviate: a capital letter, and up to 254 letters, digits"
            " and underscores behind it"
        )


def _open(settings: WeaviateSettings, page_bytes: int) -> Store:
    from replicator.connectors.weaviate.store import (  # noqa: PLC0415 - see StoreKind
        WeaviateStore,
    )

    return WeaviateStore(settings, page_bytes)


REQUEST_BYTES = 64 << 20
"""Of a message of ours. The server takes 104,858,000 bytes unless it is told otherwise
(`grpcMaxMessageSize` of its /v1/meta)."""

WEAVIATE = StoreKind(
    settings=WeaviateSettings,
    traits=Traits(
        ids=IdRules(kinds=IdKinds.UUID),
        vectors=VectorRules(
            kinds=frozenset({VectorKind.DENSE, VectorKind.MULTI}),
            several=True,
            none=True,
            dimensions_max=65_535,  # an object keeps the length in 16 bits (maxVectorLength)
        ),
        # A `number` is a float64; what the JSON beside it holds is told apart.
        payload=PayloadRules(integers_apart=False),
        limits=Limits(records_max=1_000, bytes_max=REQUEST_BYTES // 2),
        marks=True,
        patches=False,
        # The server's auto-schema makes a class of whatever names one, unless it is off.
        creates_on_write=True,
        scopes=True,
        indexes=True,
    ),
    example="""\
kind = "weaviate"
url = "${{{side}_URL:-http://localhost:8080}}"        # the REST port; https:// for TLS
#grpc_url = "http://localhost:50051"
api_key = "${{{side}_API_KEY:-}}"
""",
    open=_open,
    url=UrlForm(
        example="weaviate://localhost:8080/Articles",
        section=lambda url: {"url": url.http(8080)},
    ),
)
