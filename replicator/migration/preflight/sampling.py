"""
A sample of rows, carried without writing: which cannot travel, and which would meet?

Some thousands of rows of each collection are read and let go page by page, so that a preflight
holds ids and no vectors. A time limit ends it early at a slow store; what was seen by then is
what is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

from replicator.codecs.validation import validate_point
from replicator.errors import Rejected
from replicator.model.event import Key
from replicator.model.finding import CheckFinding, Severity
from replicator.model.point import Point, PointId
from replicator.model.schema import CollectionSchema
from replicator.model.scopes import Scopes
from replicator.ports.store import Page
from replicator.settings.transform import CollectionSettings
from replicator.stream.embedding import text_of
from replicator.stream.reading import Reader
from replicator.stream.transform import FieldTransform

_ROWS = 2000
"""Rows of each collection that are looked at: some seconds at most."""
_PAGE_ROWS = 64
"""Rows held at once. Four times as many would hold a gigabyte where rows have megabytes."""
_CHUNKS = 8
_SPAN_S = 20.0
"""How long the look may take: a person waits for it. Half would end it early on a slow network.
"""


async def sample_rows(
    collection: CollectionSettings,
    schema: CollectionSchema,
    there: CollectionSchema,
    transform: FieldTransform,
    source: Reader,
    *,
    scopes: Scopes | None,
) -> list[CheckFinding]:
    """Findings of the rows; `there` is the target collection as it is or will be. `source` is
    asked once: what it raises is a finding.
    """
    sample = _Sample(collection, schema, there, transform)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SPAN_S):
            chunks = await source.split(collection.source, _CHUNKS, scopes)
            for chunk in chunks:
                quota = max(1, _ROWS // len(chunks))
                scan = source.scan(
                    chunk,
                    None,
                    min(_PAGE_ROWS, quota),
                    where=None if transform.filter is None else transform.filter.tree,
                )
                async with aclosing(scan) as pages:
                    async for page in pages:
                        sample.look(page)
                        quota -= len(page.points)
                        # Not to be held while the next one is read.
                        del page
                        if quota <= 0:
                            break
    return sample.findings()


class _Sample:
    """What the rows have shown so far."""

    def __init__(
        self,
        collection: CollectionSettings,
        schema: CollectionSchema,
        there: CollectionSchema,
        transform: FieldTransform,
    ) -> None:
        self._collection = collection
        self._schema = schema
        self._there = there
        self._transform = transform
        self._rows = 0
        self._collisions = 0
        self._targets: dict[PointId, PointId] = {}
        self._refused: list[Rejected] = []

    def look(self, page: Page) -> None:
        """Carry a page as far as the target's door."""
        self._rows += len(page.points) + len(page.rejected)
        self._refused += [row.error for row in page.rejected]
        for point in page.points:
            try:
                self._carry(point)
            except Rejected as error:
                self._refused.append(error)

    def _carry(self, point: Point) -> None:
        validate_point(point, self._schema.vectors)
        key = Key(self._collection.source, point.id)
        made = self._transform.point(key, point)
        if made is not None:
            embed = self._collection.transform.embed
            for name, settings in embed.items():
                text_of(name, settings, point.payload)
            there = self._there.vectors or {}
            known = {name: vector for name, vector in there.items() if name not in embed}
            validate_point(made, known if self._there.vectors is not None else None)
        target_id = self._transform.target_id(key)
        if self._targets.setdefault(target_id, point.id) != point.id:
            self._collisions += 1

    def findings(self) -> list[CheckFinding]:
        """Once the look is over."""
        subject = f"source/{self._collection.source}"
        findings = []
        if self._collisions:
            message = (
                f"{self._collisions} of {len(self._targets)} sampled keys meet another one's"
                " target id"
            )
            findings.append(CheckFinding(Severity.BLOCKS, "id-collision", subject, message))
        # Where not one row of the sample can travel, a copy is a list of dead letters.
        none_travels = len(self._refused) == self._rows
        for code in dict.fromkeys(error.code for error in self._refused):
            same = [error for error in self._refused if error.code == code]
            count = "all" if len(same) == self._rows else str(len(same))
            message = (
                f"{count} of the sampled rows will go to the dead letters: {same[0].message}"
            )
            severity = Severity.BLOCKS if none_travels else Severity.WARNS
            findings.append(CheckFinding(severity, code, subject, message))
        return findings
