"""JSONL files as a kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from replicator.codecs.file_names import why_no_file
from replicator.codecs.keys import ID_BYTES_MAX, INTEGER_MAX, INTEGER_MIN
from replicator.connectors.jsonl.names import file_name
from replicator.model.schema import IdKinds, IdLimits, Precision, VectorKind
from replicator.model.traits import IdRules, PayloadRules, Traits, VectorRules
from replicator.ports.kind import DirectoryOf, StoreKind, UrlForm
from replicator.settings.rules import why_below
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Size

if TYPE_CHECKING:
    from replicator.ports.store import Store


class JsonlSettings(StoreSettings, tag="jsonl", tag_field="kind", frozen=True):
    """A directory with one `<collection>.jsonl` for each collection."""

    examples = {"path": '"export"'}  # noqa: RUF012 - a ClassVar
    path: str
    """The directory. Made when absent."""
    fsync: bool = True
    """Force every batch to the disk before it counts as written."""
    segment_bytes: Size = Size(1 << 20)
    """A copy is not cut into chunks that would read less than this. Smaller lets more readers
    share a small file; larger saves chunks that are not worth their overhead."""

    def address(self) -> str:
        """The directory."""
        return self.path.rstrip("/") or "/"

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        if not self.path:
            yield "path", "is empty"
        if why := why_below(self.segment_bytes, 1):
            yield "segment_bytes", why

    def unfit(self, collection: str) -> str | None:
        """Names that a file cannot have, whatever becomes of them on the way. The empty one has
        a file as others do.
        """
        return why_no_file(collection)


def _open(settings: JsonlSettings, page_bytes: int) -> Store:
    from replicator.connectors.jsonl.store import JsonlStore  # noqa: PLC0415 - see StoreKind

    return JsonlStore(settings, page_bytes)


def _holds(directory: str, collection: str) -> bool:
    return (Path(directory) / file_name(collection)).exists()


JSONL = StoreKind(
    settings=JsonlSettings,
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
        scopes=True,
        filters=False,
        exact_search=True,
    ),
    example="""\
kind = "jsonl"
path = "{folder}"                               # one <collection>.jsonl for each collection
""",
    open=_open,
    files=DirectoryOf(settings=lambda directory: JsonlSettings(path=directory), holds=_holds),
    url=UrlForm(example="jsonl:///directory/articles", section=lambda url: {"path": url.path}),
)
