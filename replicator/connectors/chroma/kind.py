"""Chroma as a kind of store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from replicator.model.schema import IdKinds, IdLimits
from replicator.model.store_url import StoreUrl
from replicator.model.traits import IdRules, Limits, Lists, PayloadRules, Traits, VectorRules
from replicator.ports.kind import StoreKind, UrlForm
from replicator.settings.credentials import why_not_sent
from replicator.settings.rules import why_below, why_no_url
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration, Secret

if TYPE_CHECKING:
    from replicator.ports.store import Store

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")

_URL = "http://localhost:8000"

CLOUD_RECORDS_MAX = 300
"""Records of one read or write of Chroma Cloud's default quota."""


class ChromaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a collection's records are told as points."""

    document_field: str = "document"
    """The payload field that carries a record's document. Another one is needed where records
    have a field of this name in their metadata as well."""


class ChromaSettings(StoreSettings, tag="chroma", tag_field="kind", frozen=True):
    """
    A Chroma server over HTTP, or a folder of one, opened in this process.

    A record's document is a field of the payload (`document_field` of the collection's
    options), its URI the field `_uri`. Ids are texts. Under cosine, vectors come back rounded
    in the last place.
    """

    options = ChromaOptions
    url: str = _URL
    """Address of the server; `https://` for TLS."""
    path: str = ""
    """Instead of a server: a folder that Chroma keeps its data in, for a plain copy. Nobody
    else may have it open. Needs the extra `chroma`."""
    token: Secret = Secret("")
    """Sent as a bearer token, or to Chroma Cloud as its API key."""
    tenant: str = "default_tenant"
    """The tenant; Chroma Cloud shows its id with the API keys."""
    database: str = "default_database"
    """The database of the tenant."""
    plan: Literal["local", "cloud"] = "local"
    """`cloud` keeps the quotas of Chroma Cloud: 300 records a request, ids of 128 bytes."""
    timeout: Duration = Duration(60)
    """How long the server may take over one request."""
    late_write_bound: Duration = Duration(60)
    """How long after a lost reply a write may still land. Half of it risks that an old write
    overtakes a new one; twice it only slows recovery after lost replies."""
    staleness: Duration = Duration(0)
    """How long a read may lag a write. A server reads its own writes."""

    def address(self) -> str:
        """Host and port, or the folder; tenant and database."""
        if self.path:
            place = str(Path(self.path).absolute())
        else:
            parts = urlsplit(self.url)
            host = "localhost" if parts.hostname == "127.0.0.1" else parts.hostname
            port = parts.port or (443 if parts.scheme == "https" else 80)
            place = f"{host}:{port}{parts.path.rstrip('/')}"
        return f"{place}#{self.tenant}/{self.database}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        if not self.path:
            yield from self._problems_of_url()
        elif self.url != _URL:
            yield "url", "is of no use beside path: give one of them"
        elif self.plan == "cloud":
            yield "plan", "is for a url"
        for name in ("tenant", "database"):
            if not getattr(self, name):
                yield name, "is empty"
        if why := why_below(self.timeout, 0.001):
            yield "timeout", why

    def _problems_of_url(self) -> Iterator[tuple[str, str]]:
        if why := why_no_url(self.url):
            yield "url", why
            return
        parts = urlsplit(self.url)
        if "@" in parts.netloc:
            yield "url", "holds a user or password; use token"
        if parts.query or parts.fragment:
            yield "url", "has a query, which would be lost"
        if why := why_not_sent(self.token.reveal()):
            yield "token", why

    def unfit(self, collection: str) -> str | None:
        """Names that Chroma refuses."""
        if _NAME.fullmatch(collection) and ".." not in collection and not _is_ip(collection):
            return None
        return (
            "is no name for Chroma: 3 to 512 of a-z, A-Z, 0-9, `.`, `_` and `-`, a letter or"
            " digit at both ends, no `..`, no IP address"
        )

    def traits(self) -> Traits:
        """What the store behind these settings is."""
        traits = CHROMA.traits
        if self.path:
            return msgspec.structs.replace(traits, live=False)
        if self.plan == "cloud":
            return msgspec.structs.replace(
                traits,
                ids=IdRules(kinds=IdKinds.STRING, limits=IdLimits(text_bytes_max=128)),
                limits=Limits(records_max=CLOUD_RECORDS_MAX, bytes_max=traits.limits.bytes_max),
            )
        return traits


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _by_url(url: StoreUrl) -> dict[str, Any]:
    return {"url": url.http(8000)} if url.place else {"path": url.path}


def _open(settings: ChromaSettings, page_bytes: int) -> Store:
    from replicator.connectors.chroma.store import ChromaStore  # noqa: PLC0415 - see StoreKind

    return ChromaStore(settings, page_bytes)


CHROMA = StoreKind(
    settings=ChromaSettings,
    traits=Traits(
        ids=IdRules(kinds=IdKinds.STRING),
        vectors=VectorRules(rounds=True),  # by 1.2e-7 of the largest component
        payload=PayloadRules(
            nested=False,
            lists=Lists.ALIKE,
            null_is_absence=True,
            keys=r"(?![#$]|chroma:)[\s\S]+",
        ),
        limits=Limits(
            records_max=5_461,  # what the SQLite of a local server binds in one statement
            bytes_max=28 << 20,  # a local server takes 40 MiB, and vectors travel as base64
        ),
        marks=True,
        filters=False,
    ),
    example="""\
kind = "chroma"
url = "${{{side}_URL:-http://localhost:8000}}"
token = "${{{side}_TOKEN:-}}"
#tenant = "default_tenant"                      # and database, and plan = "cloud"
#path = "{folder}"                              # instead of url: a folder, for a plain copy
""",
    open=_open,
    url=UrlForm(
        example="chroma://localhost:8000/articles, chroma:///folder/articles",
        section=_by_url,
    ),
)
