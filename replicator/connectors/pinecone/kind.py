"""Pinecone as a kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from replicator.model.schema import IdKinds, IdLimits, VectorKind
from replicator.model.store_url import StoreUrl
from replicator.model.traits import IdRules, Limits, Lists, PayloadRules, Traits, VectorRules
from replicator.ports.kind import StoreKind, UrlForm
from replicator.settings.credentials import why_not_sent
from replicator.settings.rules import why_below, why_no_url
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration, Secret

if TYPE_CHECKING:
    from replicator.ports.store import Store

_CONTROL = "https://api.pinecone.io"

DEFAULT_NAMESPACE = "__default__"
"""How the service lists the namespace without a name."""


class PineconeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the records of a namespace are told as points."""

    sparse: str = ""
    """The name of the sparse vector that a record may have beside its dense one. Where none is
    given, such a record is a dead letter. An index of sparse vectors alone needs none: there
    the sparse vector is the one without a name."""


class PineconeSettings(StoreSettings, tag="pinecone", tag_field="kind", frozen=True):
    """
    A serverless index of Pinecone, by its name or its host; a collection is a namespace. Seen
    on a double of the service only.

    Numbers are floats there: what has no fraction is read as an integer. Nulls are left out. A
    vector of zeros is refused by the service, and so a dead letter here.
    """

    options = PineconeOptions
    examples = {"index": '"articles"', "api_key": '"your-key"'}  # noqa: RUF012 - a ClassVar
    index: str = ""
    """The name of the index. Name it in the same way wherever it is configured: an index under
    its name and the same one under its host are not seen to be one."""
    host: str = ""
    """Instead of its name: where the index is served, so that the control plane is not asked.
    Whether it is a kind of index that can be used is then not looked at."""
    api_key: Secret = Secret("")
    """The key of the project."""
    control: str = _CONTROL
    """The control plane, which knows where an index is served."""
    plan: Literal["starter", "standard", "enterprise", "dedicated"] = "standard"
    """What is paid for: how many namespaces an index may have, and, with `dedicated` read
    nodes, reads at any rate."""
    timeout: Duration = Duration(60)
    """How long the service may take over one request."""
    late_write_bound: Duration = Duration(120)
    """How long after a lost reply a write may still land; the vendor names no figure, so it is
    twice `timeout`. Half of it risks that an old write overtakes a new one; twice it only
    slows recovery after lost replies."""
    staleness: Duration = Duration(60)
    """How long a read may lag a write. The service is eventually consistent, and the vendor
    names no figure but "a slight delay": seconds mostly, up to a minute as users tell. Too
    little of it lets a patch be applied to an old record."""

    def address(self) -> str:
        """The host of the index, or the control plane and the index's name."""
        if self.host:
            return _place(self.host)
        return f"{_place(self.control)}#{self.index}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        if not self.index and not self.host:
            yield "index", "is empty, and so is host: give one of them"
        if self.index and self.host:
            yield "host", "is of no use beside index: give one of them"
        if self.host and (why := why_no_url(_url(self.host))):
            yield "host", why
        if why := why_no_url(self.control):
            yield "control", why
        key = self.api_key.reveal()
        if not key:
            yield "api_key", "is empty"
        elif why := why_not_sent(key):
            yield "api_key", why
        if why := why_below(self.timeout, 0.001):
            yield "timeout", why

    def unfit(self, collection: str) -> str | None:
        """Names that no namespace has; the empty one is that of the default namespace."""
        if collection == DEFAULT_NAMESPACE:
            return 'is how Pinecone lists the default namespace, whose name here is ""'
        if len(collection) <= _NAME_MAX and collection.isascii() and "\0" not in collection:
            return None
        return f"is no namespace of Pinecone: up to {_NAME_MAX} ASCII characters, no NUL"


def _url(host: str) -> str:
    return host if "://" in host else f"https://{host}"


def _place(url: str) -> str:
    parts = urlsplit(_url(url))
    host = "localhost" if parts.hostname == "127.0.0.1" else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{host}:{port}"


def _by_url(url: StoreUrl) -> dict[str, Any]:
    """An index has a name without dots, which its host has."""
    if url.transport or not url.place or url.folder.strip("/"):
        raise ValueError("behind the index stands the namespace, and nothing else")
    return {"host" if "." in url.place else "index": url.place}


def _open(settings: PineconeSettings, page_bytes: int) -> Store:
    from replicator.connectors.pinecone.store import (  # noqa: PLC0415 - see StoreKind
        PineconeStore,
    )

    return PineconeStore(settings, page_bytes)


_NAME_MAX = 512
"""Characters of a namespace, as the vendor's client has it."""

REQUEST_BYTES = 2_000_000
"""Of an upsert, as it travels in JSON. This figure, and those below that name no other source:
the vendor's page of limits (docs.pinecone.io/reference/api/database-limits), August 2026."""

METADATA_BYTES = 40 << 10
"""Of one record's metadata, as JSON."""

PINECONE = StoreKind(
    settings=PineconeSettings,
    traits=Traits(
        ids=IdRules(
            kinds=IdKinds.STRING,
            limits=IdLimits(text_bytes_max=512, alphabet=r"\x01-\x7f"),
        ),
        vectors=VectorRules(
            kinds=frozenset({VectorKind.DENSE, VectorKind.SPARSE}),
            dimensions_max=20_000,
            hybrid=True,
            zero=False,
        ),
        payload=PayloadRules(
            nested=False,
            lists=Lists.TEXTS,
            null_is_absence=True,
            # Every number is a double, in which the integers up to 2^53 are one each.
            integer_max=1 << 53,
            integers_apart=False,
            keys=r"(?!\$)[\s\S]*",
        ),
        limits=Limits(
            records_max=1_000,
            # In JSON a component takes up to 22 bytes instead of 4. What is too large all the
            # same is sent in parts; half of it would send twice as many requests.
            bytes_max=REQUEST_BYTES // 5,
        ),
        # A record of ours would be one of the user's data, found by every search.
        marks=False,
        patches=False,
        # The counts lag writes by an unknown time.
        counts=False,
        creates_on_write=True,
    ),
    example="""\
kind = "pinecone"
index = "articles"                              # or host = "articles-….svc.….pinecone.io"
api_key = "${{{side}_API_KEY}}"
#plan = "standard"                              # starter, enterprise, dedicated
""",
    open=_open,
    url=UrlForm(
        example="pinecone://index/namespace",
        section=_by_url,
        nameless=DEFAULT_NAMESPACE,
    ),
)
