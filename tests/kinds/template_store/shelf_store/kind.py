"""A shelf as a kind of store: what it is, known without opening one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from replicator.model.schema import IdKinds
from replicator.model.traits import IdRules, Lists, PayloadRules, Traits, VectorRules
from replicator.ports.kind import StoreKind
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration

if TYPE_CHECKING:
    from replicator.ports.store import Store


class ShelfSettings(StoreSettings, tag="shelf", tag_field="kind", frozen=True):
    """A SQLite file with a table of points."""

    path: str
    """The file. Made when absent."""
    timeout: Duration = Duration(5)
    """How long to wait while somebody else writes it."""

    def address(self) -> str:
        """The file."""
        return self.path

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        if not self.path:
            yield "path", "is empty"

    def unfit(self, collection: str) -> str | None:
        """Any text names a collection here, the empty one too."""
        del collection
        return None


def _open(settings: ShelfSettings, page_bytes: int) -> Store:
    from shelf_store.store import ShelfStore

    del page_bytes  # points here are small
    return ShelfStore(settings.path, float(settings.timeout))


SHELF = StoreKind(
    settings=ShelfSettings,
    traits=Traits(
        ids=IdRules(kinds=IdKinds.STRING),
        vectors=VectorRules(),
        payload=PayloadRules(nested=False, lists=Lists.ALIKE, null_is_absence=True),
        marks=True,
        patches=False,
        filters=False,
        exact_search=True,
    ),
    example="""\
kind = "shelf"
path = "{folder}.shelf"
""",
    open=_open,
)
