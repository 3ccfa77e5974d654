"""A part as it is read: which ids it holds, and its rows, some at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from replicator.connectors.parquet.columns import Columns, Rows, columns_of, each_id
from replicator.connectors.parquet.kind import ParquetOptions
from replicator.connectors.parquet.places import Place
from replicator.errors import Refused, Rejected
from replicator.model.point import PointId

_BUFFER_BYTES = 1 << 20
"""Of a column that is read; without it a whole column of a row group is, however large."""


class Part:
    """
    One file. Its footer and its ids are read at once: about 100 bytes of memory an id. What is
    open for longer is closed by who opened it.
    """

    def __init__(
        self,
        place: Place,
        path: str,
        *,
        options: ParquetOptions,
        scoped: bool,
        digest: str | None = None,
        deleted: tuple[int, ...] = (),
    ) -> None:
        """Raises Refused("file-damaged", "config-invalid")."""
        self.path = path
        self.name = path.rpartition("/")[2]
        self.deleted = frozenset(deleted)
        """Numbers of rows that count no more."""
        self.digest = digest
        self._place = place
        self.unreadable: dict[int, Rejected] = {}
        """Rows whose id cannot be read, by number."""
        self.ids: list[PointId | None] = []
        with self._opened() as file:
            self.columns: Columns = columns_of(
                file.schema_arrow, options, scoped=scoped, place=place.show(path)
            )
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            self.begins: list[int] = [0, *accumulate(group.num_rows for group in groups)]
            """The number of the first row of each row group, and of all rows."""
            self.shape = file.schema_arrow.to_string()
            """Parts of one shape can be gathered."""
            self.sizes = [group.total_byte_size for group in groups]
            """Of each row group, about, once it is read."""
            self._read_ids(file)

    @property
    def rows(self) -> int:
        """In the file."""
        return self.begins[-1]

    def group_of(self, row: int) -> int:
        """The row group of a row."""
        return bisect_right(self.begins, row) - 1

    def _read_ids(self, file: Any) -> None:
        names = [self.columns.id, *([self.columns.scope] if self.columns.scope else [])]
        for batch in file.iter_batches(columns=names, use_threads=False):
            for found in each_id(batch, self.columns):
                if isinstance(found, Rejected):
                    self.unreadable[len(self.ids)] = found
                    self.ids.append(None)
                else:
                    self.ids.append(found)

    def batches(self, begin: int, end: int, rows_max: int) -> Iterator[Rows]:
        """
        The rows of a range, so many at a time. A batch lies in one row group. The first time
        that a part of ours is read, it is compared with its digest.
        """
        with self._opened(self.digest) as file:
            self.digest = None
            for group, first in enumerate(self.begins[:-1]):
                if begin < self.begins[group + 1] and first < end:
                    yield from self._group(file, group, begin, end, rows_max)

    def _group(
        self, file: Any, group: int, begin: int, end: int, rows_max: int
    ) -> Iterator[Rows]:
        at = self.begins[group]
        for batch in file.iter_batches(
            batch_size=rows_max, row_groups=[group], use_threads=False
        ):
            first, last = max(begin, at), min(end, at + batch.num_rows)
            if first < last:
                yield Rows(batch.slice(first - at, last - first), self.columns, first)
            at += batch.num_rows

    def table(self, keep: list[int]) -> Any:
        """Some rows, as they are. For a part of ours, which is small."""
        with self._opened(self.digest) as file:
            self.digest = None
            return file.read(use_threads=False).take(pa.array(keep, pa.int64()))

    @contextmanager
    def _opened(self, digest: str | None = None) -> Iterator[Any]:
        try:
            with self._place.open(self.path, digest) as source:
                file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
                yield file
        except pa.ArrowException as exc:
            raise self._damaged(exc) from exc
        except OSError as exc:
            # The decoder's complaints are of this class too, and of no number.
            if exc.errno is None and "://" not in self._place.show(self.path):
                raise self._damaged(exc) from exc
            raise

    def _damaged(self, exc: Exception) -> Refused:
        return Refused(
            "file-damaged",
            f"{self._place.show(self.path)} cannot be read as Parquet; a file that was cut has"
            f" no footer, and nothing of it can be read: {exc}",
        )
