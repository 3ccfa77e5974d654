"""PostgreSQL with pgvector as a kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from replicator.model.schema import IdKinds, IdLimits, Precision, VectorKind
from replicator.model.store_url import StoreUrl
from replicator.model.traits import IdRules, PayloadRules, Traits, VectorRules
from replicator.ports.kind import StoreKind, UrlForm
from replicator.settings.rules import why_below
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration, Secret

if TYPE_CHECKING:
    from replicator.ports.store import Store

MARKS = "vector_replicator_marks"
"""The table that holds our marks, in the schema of the collections."""

NAME_BYTES_MAX = 63
"""Of a name in PostgreSQL, which cuts a longer one without a word."""


class PgvectorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which columns of a table are what, where its primary key, types and comments do not say
    so.
    """

    key: str = ""
    """The column that is the id; the primary key when empty."""
    vectors: dict[str, str] = {}
    """Column → name of the vector. When empty, every column of a vector type has its own name,
    and a single one has none."""
    payload: str = ""
    """The jsonb column that is the whole payload. When empty, every other column is a field."""
    distance: Literal["", "cosine", "dot", "euclid", "manhattan"] = ""
    """By what vectors are compared, where no index of their column says so."""


class PgvectorSettings(StoreSettings, tag="pgvector", tag_field="kind", frozen=True):
    """
    PostgreSQL (14 or newer) with the extension pgvector. A collection is a table.

    A table has a key of one column (integer, text or uuid), columns of vectors (`vector`,
    `halfvec`, `sparsevec`), and a payload: one jsonb column, or every other column as a field.
    As columns, NULL is an absent field, `numeric` of more than 15 digits a text, `timestamptz`
    a text in UTC, and a generated column nothing of a point. A table that the replicator makes
    has `id`, a column a vector, and `payload` as jsonb.
    """

    examples = {  # noqa: RUF012 - a ClassVar
        "dsn": '"postgresql://app:${PGVECTOR_PASSWORD:-}@localhost:5432/app"'
    }
    options = PgvectorOptions
    dsn: Secret
    """Where the database is, and as whom: `postgresql://user:password@host:5432/database`, with
    `?sslmode=verify-full` for TLS. Shown nowhere, for it may hold a password."""
    schema: str = "public"
    """The schema of the tables. Our marks are kept there too, in `vector_replicator_marks`."""
    connections: int = 8
    """Connections at most. Each costs the server a process; fewer than chunks or lanes are
    copied at once make these wait for one another."""
    timeout: Duration = Duration(60)
    """How long the server may take over one statement. A count may take an hour, and the
    building of an index as long as it needs."""
    late_write_bound: Duration = Duration(60)
    """How long after a lost reply a commit may still take effect. Half of it risks that an old
    write overtakes a new one; twice it only slows recovery after lost replies."""
    staleness: Duration = Duration(0)
    """How long a read may lag a write. 0 for a primary; more where `dsn` leads to a standby."""

    def address(self) -> str:
        """Host, port, database and schema."""
        parts = urlsplit(self.dsn.reveal())
        asked = parse_qs(parts.query)
        place = parts.netloc.rpartition("@")[2] or ",".join(asked.get("host", ["localhost"]))
        # What is no host may be the rest of a password.
        hosts = ",".join(_spelled(e) if _is_host(e) else "?" for e in place.split(","))
        database = unquote(parts.path.lstrip("/")) or parts.username or ""
        return f"{hosts}/{database}#{self.schema}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        try:
            parts = urlsplit(self.dsn.reveal())
            hosts = parts.netloc.rpartition("@")[2].split(",")
            told = parts.scheme in ("postgresql", "postgres") and all(map(_is_host, hosts))
        except ValueError:
            told = False
        if not told:
            what = "is no address such as postgresql://user@localhost:5432/database"
            yield "dsn", f"{what} (in a password `/`, `@`, `:` and `?` are percent-encoded)"
        if why := _why_no_name(self.schema):
            yield "schema", why
        if why := why_below(self.connections, 1):
            yield "connections", why
        if why := why_below(self.timeout, 0.001):
            yield "timeout", why

    def unfit(self, collection: str) -> str | None:
        """Names that no table can have, and that of our own."""
        if collection == MARKS:
            return "is the table that the replicator keeps its marks in"
        return _why_no_name(collection)


def _is_host(host: str) -> bool:
    """Whether what stands behind the name is a port."""
    port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else "0"
    return port.isdecimal()


def _spelled(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name, port = host, "5432"
    name = name.lower() if not name.startswith("/") else name
    return f"{'localhost' if name in ('127.0.0.1', '') else name}:{port}"


def _why_no_name(name: str) -> str | None:
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX or "\0" in name:
        return f"is no name for PostgreSQL, which has 1 to {NAME_BYTES_MAX} bytes"
    return None


def _by_url(url: StoreUrl) -> dict[str, Any]:
    """A password that is not in it the driver takes from PGPASSWORD or ~/.pgpass."""
    if ":" in url.place.rpartition("@")[0]:
        raise ValueError(
            "a password is no part of it: the driver reads PGPASSWORD and ~/.pgpass"
        )
    database = url.folder.strip("/")
    if url.transport or not url.place or not database or "/" in database:
        raise ValueError("behind the host stand the database and the table")
    return {"dsn": f"postgresql://{url.place}/{quote(database)}"}


def _open(settings: PgvectorSettings, page_bytes: int) -> Store:
    from replicator.connectors.pgvector.store import PgvectorStore  # noqa: PLC0415 - StoreKind

    return PgvectorStore(settings, page_bytes)


PGVECTOR = StoreKind(
    settings=PgvectorSettings,
    traits=Traits(
        ids=IdRules(
            kinds=IdKinds.UINT64 | IdKinds.UUID | IdKinds.STRING,
            # bigint; and no text of PostgreSQL holds U+0000
            limits=IdLimits(
                integer_min=-(1 << 63), integer_max=(1 << 63) - 1, alphabet=r"^\x00"
            ),
            mixed=False,
        ),
        vectors=VectorRules(
            kinds=frozenset({VectorKind.DENSE, VectorKind.SPARSE}),
            several=True,
            none=True,  # a column may be NULL
            precisions=frozenset({Precision.FLOAT32, Precision.FLOAT16}),
            dimensions_max=16_000,  # VECTOR_MAX_DIM and HALFVEC_MAX_DIM of pgvector
            sparse_dimensions_max=1_000_000_000,  # SPARSEVEC_MAX_DIM
        ),
        payload=PayloadRules(
            nul=False,  # jsonb refuses \u0000
            keys=r"[^\x00]*",
        ),
        marks=True,
        exact_search=True,
    ),
    example="""\
kind = "pgvector"
dsn = "${{{side}_DSN:-postgresql://localhost:5432/postgres}}"  # a password is in it too
#schema = "public"
""",
    open=_open,
    url=UrlForm(
        example="pgvector://app@localhost:5432/database/articles",
        section=_by_url,
    ),
)
