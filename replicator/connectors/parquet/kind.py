"""Parquet files as a kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from replicator.codecs.file_names import stem_of, why_no_file
from replicator.codecs.keys import ID_BYTES_MAX, INTEGER_MAX, INTEGER_MIN
from replicator.errors import Refused
from replicator.model.schema import IdKinds, IdLimits, Precision, VectorKind
from replicator.model.store_url import StoreUrl
from replicator.model.traits import IdRules, PayloadRules, Traits, VectorRules
from replicator.ports.kind import DirectoryOf, StoreKind, UrlForm
from replicator.settings.rules import why_below
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Size

if TYPE_CHECKING:
    from replicator.ports.store import Store


class ParquetOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the columns of another program's files are told as points."""

    id: str = "id"
    """The column of the ids."""
    vectors: dict[str, str] = {}
    """Columns that are vectors, each with the name of its vector. Without it: `vector`, the
    unnamed one, and `vectors`, a struct or map of them by name."""
    payload: dict[str, str] = {}
    """Columns that are payload fields, each with the name of its field; the maps of a column
    whose field is `""` are the payload itself. Without it: `payload` or `metadata` for these
    maps; where a file has neither, every other column is a field of its name."""


class ParquetSettings(StoreSettings, tag="parquet", tag_field="kind", frozen=True):
    """
    A directory with one folder of parts, or one file, for each collection.

    For plain copies, `export` and `import`. A part is never appended to, and a manifest in the
    folder says how many rows each has, and its SHA-256.
    """

    examples = {"path": '"export"'}  # noqa: RUF012 - a ClassVar
    options = ParquetOptions
    path: str
    """The directory, made when absent; or a URL such as `s3://bucket/folder`, with credentials
    from the environment."""
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    """Of the parts that are written."""
    part_bytes: Size = Size(128 << 20)
    """Small parts are gathered into one of about this size. Half of it doubles the number of
    files; twice it doubles what is read again to gather them after a crash."""

    @property
    def is_remote(self) -> bool:
        """Whether the path is a URL."""
        return "://" in self.path

    def address(self) -> str:
        """The directory."""
        return self.path.rstrip("/") or "/"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        if not self.path:
            yield "path", "is empty"
        elif self.path.startswith("file:"):
            yield "path", "is a URL of this machine: give the directory alone"
        elif self.is_remote and "@" in urlsplit(self.path).netloc:
            yield "path", "holds a user or password; leave credentials to the environment"
        if why := why_below(self.part_bytes, 1):
            yield "part_bytes", why

    def unfit(self, collection: str) -> str | None:
        """Names that a file cannot have. The empty one has a folder as others do."""
        return why_no_file(collection)


def _open(settings: ParquetSettings, page_bytes: int) -> Store:
    from replicator.connectors.parquet.store import ParquetStore  # noqa: PLC0415 - see StoreKind

    return ParquetStore(settings, page_bytes)


def _by_url(url: StoreUrl) -> dict[str, Any]:
    if url.transport:
        return {"path": f"{url.transport}://{url.place}{url.folder.rstrip('/')}"}
    return {"path": url.path}


def _in_directory(directory: str) -> ParquetSettings:
    settings = ParquetSettings(path=directory)
    if settings.is_remote:
        # The state of an export lies beside its files, and is a database.
        raise Refused(
            "config-invalid",
            f"{directory} is no directory of this machine: for a copy to a URL make it the"
            ' [target] of a configuration with feed.kind = "none"',
        )
    return settings


def _holds(directory: str, collection: str) -> bool:
    stem = Path(directory) / stem_of(collection)
    return stem.is_dir() or stem.with_name(f"{stem.name}.parquet").is_file()


PARQUET = StoreKind(
    settings=ParquetSettings,
    traits=Traits(
        ids=IdRules(
            kinds=IdKinds.UINT64 | IdKinds.UUID | IdKinds.STRING,
            limits=IdLimits(integer_min=INTEGER_MIN, text_bytes_max=ID_BYTES_MAX),
        ),
        vectors=VectorRules(
            kinds=frozenset(VectorKind),
            several=True,
            none=True,
            schema=False,
            precisions=frozenset(Precision),
        ),
        payload=PayloadRules(integer_max=INTEGER_MAX),
        marks=True,
        patches=False,
        live=False,
        follows=False,
        scopes=True,
        filters=False,
        exact_search=True,
    ),
    example="""\
kind = "parquet"
path = "{folder}"                               # a folder of parts for each collection
#compression = "zstd"
""",
    open=_open,
    files=DirectoryOf(settings=_in_directory, holds=_holds),
    url=UrlForm(
        example="parquet:///directory/articles, parquet+s3://bucket/folder/articles",
        section=_by_url,
    ),
)
