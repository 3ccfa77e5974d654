"""Qdrant as a kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from replicator.model.schema import IdKinds, Precision, VectorKind
from replicator.model.traits import IdRules, Traits, VectorRules
from replicator.ports.kind import StoreKind, UrlForm
from replicator.settings.credentials import why_not_sent
from replicator.settings.cutover import AliasSettings
from replicator.settings.rules import why_below, why_no_url
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration, Secret

if TYPE_CHECKING:
    from replicator.ports.store import Store


class QdrantSettings(StoreSettings, tag="qdrant", tag_field="kind", frozen=True):
    """A Qdrant server over gRPC, or the local store server."""

    examples = {"shard_number": "2", "replication_factor": "2"}  # noqa: RUF012 - a ClassVar
    url: str = "http://localhost:6334"
    """Address of the gRPC port; `https://` for TLS."""
    api_key: Secret = Secret("")
    """API key, if the server asks for one."""
    ca_file: str = ""
    """CA certificates, in PEM, that the server's certificate is checked with; the system's when
    empty."""
    timeout: Duration = Duration(30)
    """How long the server may take over one request. A client's deadline cancels nothing at the
    server."""
    late_write_bound: Duration = Duration(60)
    """How long after a lost reply a write may still land. Half of it risks that an old write
    overtakes a new one; twice it only slows recovery after lost replies."""
    staleness: Duration = Duration(0)
    """How long a read may lag a write. 0 for one node; more when reads may go to lagging
    replicas."""
    shard_number: int | None = None
    """Shards of a collection that the replicator creates; the server's default when absent."""
    replication_factor: int | None = None
    """Replicas of a collection that the replicator creates; the server's default when absent.
    """
    defer_indexing: bool = True
    """Defer indexing of a collection that the replicator creates until the copy is done."""

    def address(self) -> str:
        """Host and port, and the path of a proxy."""
        parts = urlsplit(self.url)
        host = "localhost" if parts.hostname == "127.0.0.1" else parts.hostname
        return f"{host}:{parts.port or 6334}{parts.path.rstrip('/')}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings. What gRPC would leave out without a word is refused."""
        if why := why_no_url(self.url):
            yield "url", why
            return
        parts = urlsplit(self.url)
        if "@" in parts.netloc:
            yield "url", "holds a user or password, which gRPC does not send; use api_key"
        if parts.query or parts.fragment or parts.path.strip("/"):
            yield "url", "has a path or query, which gRPC does not use"
        if why := why_not_sent(self.api_key.reveal()):
            yield "api_key", why
        if self.ca_file and not self.url.startswith("https://"):
            yield "ca_file", "is for a url that begins with https://"
        if why := why_below(self.timeout, 0.001):
            yield "timeout", why
        for name in ("shard_number", "replication_factor"):
            count = getattr(self, name)
            if count is not None and (why := why_below(count, 1)):
                yield name, why


class QdrantAliasSettings(AliasSettings, tag="qdrant-alias", tag_field="kind", frozen=True):
    """
    Readers use an alias of one Qdrant server that holds both stores; the switch moves it. One
    alias for each collection of the migration, in the same order.
    """

    store = "qdrant"


def _open(settings: QdrantSettings, page_bytes: int) -> Store:
    from replicator.connectors.qdrant.store import QdrantStore  # noqa: PLC0415 - see StoreKind

    return QdrantStore(settings, page_bytes)


QDRANT = StoreKind(
    settings=QdrantSettings,
    traits=Traits(
        ids=IdRules(kinds=IdKinds.UINT64 | IdKinds.UUID),
        vectors=VectorRules(
            kinds=frozenset(VectorKind),
            several=True,
            none=True,
            precisions=frozenset(Precision),
            dimensions_max=65_536,
            normalises=True,
        ),
        marks=True,
        aliases=True,
        scopes=True,
        indexes=True,
        exact_search=True,
    ),
    example="""\
kind = "qdrant"
url = "${{{side}_URL:-http://localhost:{port}}}"        # the gRPC port; https:// for TLS
api_key = "${{{side}_API_KEY:-}}"
""",
    open=_open,
    aliases=QdrantAliasSettings,
    url=UrlForm(
        example="qdrant://localhost:6334/articles",
        section=lambda url: {"url": url.http(6334)},
    ),
)
