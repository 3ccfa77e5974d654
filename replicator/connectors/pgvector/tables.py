"""
The tables of a schema, looked at anew with every transaction: others may alter one while it is
copied.

To read what a table is made of costs several times what a page of small rows does. So it is
remembered with a stamp, the transactions that wrote its rows in the catalogue, and read again
where that changed. What the stamp does not show, indexes and comments, matters to those alone
who ask for it `fresh`.
"""

from __future__ import annotations

from replicator.connectors.pgvector.connections import Session
from replicator.connectors.pgvector.kind import PgvectorOptions
from replicator.connectors.pgvector.statements import quoted, statement
from replicator.connectors.pgvector.table import Table, find_table
from replicator.errors import Refused

_DEFAULTS = PgvectorOptions()


class Tables:
    """Those of one schema, with the options of each."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._known: dict[str, tuple[str, Table]] = {}
        self.options: dict[str, PgvectorOptions] = {}

    def choose(self, name: str, options: PgvectorOptions) -> None:
        """How a table is kept."""
        self.options[name] = options
        self._known.pop(name, None)

    async def find(self, session: Session, name: str, *, fresh: bool = False) -> Table | None:
        """
        The table as it is now; None where there is none. Raises Refused("unsupported") for one
        that cannot be a collection.
        """
        stamp = await session.value(statement("stamp"), quoted(self._schema, name))
        known = self._known.get(name)
        if known is not None and known[0] == stamp and not fresh:
            return known[1]
        options = self.options.get(name, _DEFAULTS)
        table = await find_table(session, self._schema, name, options)
        if table is None:
            self._known.pop(name, None)
        else:
            self._known[name] = (str(stamp), table)
        return table

    async def source(self, session: Session, name: str, *, fresh: bool = False) -> Table:
        """The same of one that is read. Raises Refused("source-missing")."""
        table = await self.find(session, name, fresh=fresh)
        if table is None:
            raise Refused("source-missing", f"PostgreSQL has no table {name!r}")
        return table

    async def target(self, session: Session, name: str, *, fresh: bool = False) -> Table:
        """The same of one that is written. Raises Refused("target-missing")."""
        table = await self.find(session, name, fresh=fresh)
        if table is None:
            raise Refused("target-missing", f"PostgreSQL has no table {name!r}")
        return table
