"""
One collection: a folder of parts, or a file; with an index in memory of where each id's row is.
Plain blocking code for one thread.

A folder that we wrote has a manifest, which lists the parts that count; every change puts new
parts first and then the manifest, and takes away what it lists no more at last. So a change is
there as a whole or not at all, whenever the process dies, and what a crash leaves behind is no
part: it is taken away before the next change. Every batch is a part of its own, for a receipt
is a promise; small parts are gathered into large ones as they come to be enough.

A row that is replaced or deleted stays in its part and is listed as one that counts no more,
until the part is written anew. That is at the end of a copy, and after it at once: a finished
folder holds each point once, for whoever reads it.

A folder of another program is only read. Of equal ids the last counts, by the names of the
files and then by rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import msgspec

from replicator.codecs.file_names import name_of, stem_of
from replicator.codecs.keys import canonical_id
from replicator.codecs.layout import Layout
from replicator.connectors.parquet import manifest as manifests
from replicator.connectors.parquet.columns import Rows
from replicator.connectors.parquet.kind import ParquetOptions, ParquetSettings
from replicator.connectors.parquet.manifest import Manifest, PartEntry
from replicator.connectors.parquet.part import Part
from replicator.connectors.parquet.places import TMP, Found, Place
from replicator.connectors.parquet.tables import row_groups, tables_of, write_part
from replicator.errors import OutcomeUnknown, Refused, Rejected
from replicator.model.point import Point, PointId

_SUFFIX = ".parquet"
_HELD_BYTES = 32 << 20
"""Of row groups that were read for single rows: what is compared comes in the order of the
copy, so that the next page lies where the last one did. A larger row group is read over."""
_STREAMED_ROWS = 256

Where = tuple[str, int]
"""A row: its part and its number there."""


class ParquetCollection:
    """The files of one collection, which need not exist."""

    def __init__(
        self, place: Place, name: str, settings: ParquetSettings, options: ParquetOptions
    ) -> None:
        self.name = name
        self.manifest: Manifest | None = None
        """None of another program's files."""
        self.parts: dict[str, Part] = {}
        """In the order of their names."""
        self.index: dict[PointId, Where] = {}
        self._place = place
        self._folder = stem_of(name)
        self._settings = settings
        self._options = options
        self._seen: Hashable = None
        self._swept = False
        self._held: OrderedDict[Where, list[Rows]] = OrderedDict()

    @property
    def layout(self) -> Layout:
        """What is known of the collection; nothing of another program's."""
        return Layout() if self.manifest is None else self.manifest.schema

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return self._place.show(self._folder)

    def unreadable(self) -> int:
        """How many rows have no id to be known by."""
        return sum(len(part.unreadable) for part in self.parts.values())

    def counts(self, part: Part, row: int) -> bool:
        """Whether a row is one of the collection, and not deleted or replaced."""
        point_id = part.ids[row]
        if point_id is None:
            return row not in part.deleted
        return self.index.get(point_id) == (part.name, row)

    # -- reading --------------------------------------------------------------------------
    def refresh(self) -> bool:
        """Bring the index up to date; whether there is a collection. Raises Refused."""
        stamp = self._place.stamp(self._at(manifests.NAME))
        if stamp is not None:
            if stamp != self._seen:
                self._read_manifest()
                self._seen = stamp
            return True
        found = self._foreign()
        if found is None:
            self._forget()
            return False
        if found != self._seen:
            self._forget()
            self._load([(path, None, ()) for path, _ in found])
            self._seen = found
        return True

    def fetch(self, ids: Iterable[PointId]) -> dict[PointId, Point]:
        """The points that exist. Raises Rejected, naming the id, for one that is none."""
        wanted: dict[Where, list[tuple[int, PointId]]] = {}
        for point_id in ids:
            with suppress(Rejected):  # no row can have such an id
                if (where := self.index.get(canonical_id(point_id))) is not None:
                    name, row = where
                    group = (name, self.parts[name].group_of(row))
                    wanted.setdefault(group, []).append((row, point_id))
        found: dict[PointId, Point] = {}
        for group, rows in wanted.items():
            for row, point_id in rows:
                found[point_id] = self._point(group, row, point_id)
        return found

    def points(self) -> Iterator[Point]:
        """Every point in the order of the parts, but for rows that are none."""
        for part in self.parts.values():
            for rows in part.batches(0, part.rows, _STREAMED_ROWS):
                for number in range(rows.count):
                    if self.counts(part, rows.first + number):
                        with suppress(Rejected):
                            yield rows.point(number)

    def _point(self, group: Where, row: int, point_id: PointId) -> Point:
        for rows in self._group(group, row):
            if 0 <= row - rows.first < rows.count:
                try:
                    return rows.point(row - rows.first)
                except Rejected as error:
                    raise Rejected(
                        error.code, f"{self.name!r}, id {point_id!r}: {error}", error.path
                    ) from error
        raise AssertionError("the row is in its group")

    def _group(self, group: Where, row: int) -> Iterable[Rows]:
        """The rows of a row group, or of a part of it, with this one among them."""
        part = self.parts[group[0]]
        begin, end = part.begins[group[1]], part.begins[group[1] + 1]
        if part.sizes[group[1]] > _HELD_BYTES:
            return part.batches(row, row + 1, _STREAMED_ROWS)
        if group not in self._held:
            self._held[group] = list(part.batches(begin, end, end - begin))
        self._held.move_to_end(group)
        while len(self._held) > 1 and self._held_bytes() > _HELD_BYTES:
            self._held.popitem(last=False)
        return self._held[group]

    def _held_bytes(self) -> int:
        return sum(rows.bytes for held in self._held.values() for rows in held)

    def _foreign(self) -> tuple[tuple[str, Hashable], ...] | None:
        """The files of another program's collection; None where there is none. Raises Refused
        for a file that is no part of it.
        """
        file = f"{self._folder}{_SUFFIX}"
        stamp = self._place.stamp(file)
        within = self._place.within(self._folder)
        if within is None:
            return None if stamp is None else ((file, stamp),)
        if stamp is not None:
            raise Refused(
                "config-invalid",
                f"{self.place} is there as a file and as a folder: move one of them away",
            )
        visible = [found for found in within if not found.name.startswith(("_", "."))]
        for found in visible:
            if found.is_folder or not found.name.endswith(_SUFFIX):
                raise self._stranger(found)
        return tuple((self._at(found.name), found.stamp) for found in visible)

    def _stranger(self, found: Found) -> Refused:
        kind = "a folder" if found.is_folder else "no Parquet file of this collection"
        return Refused(
            "config-invalid",
            f"{self._place.show(self._at(found.name))} is {kind}, and would be passed over:"
            " move it away",
        )

    def _read_manifest(self) -> None:
        place = self._at(manifests.NAME)
        manifest = manifests.decode(self._place.read(place), self._place.show(place))
        if self._options != ParquetOptions():
            raise Refused(
                "config-invalid", f"{self.place} says itself what its columns are: no options"
            )
        for found in self._place.within(self._folder) or []:
            ours = manifests.is_ours(found.name.removesuffix(TMP))
            if not ours and not found.name.startswith(("_", ".")):
                raise self._stranger(found)
        self._forget()
        self.manifest = manifest
        self._load([(self._at(e.name), e.sha256, e.deleted) for e in manifest.parts])
        for entry in manifest.parts:
            if self.parts[entry.name].rows != entry.rows:
                raise Refused(
                    "file-damaged",
                    f"{self._place.show(self._at(entry.name))} has"
                    f" {self.parts[entry.name].rows} rows, and the manifest says {entry.rows}",
                )

    def _load(self, files: Sequence[tuple[str, str | None, tuple[int, ...]]]) -> None:
        for path, digest, deleted in sorted(files):
            try:
                self._add(path, digest, deleted)
            except FileNotFoundError as exc:
                # Where another process gathers parts just now, the next look sees its manifest.
                self._forget()
                raise Refused(
                    "file-damaged", f"{self._place.show(path)} is listed and is not there"
                ) from exc

    def _add(self, path: str, digest: str | None, deleted: tuple[int, ...] = ()) -> None:
        part = Part(
            self._place,
            path,
            options=self._options,
            scoped=self.layout.scoped,
            digest=digest,
            deleted=deleted,
        )
        self.parts[part.name] = part
        for row, point_id in enumerate(part.ids):
            if point_id is not None and row not in part.deleted:
                self.index[point_id] = (part.name, row)

    def _forget(self) -> None:
        self.manifest = None
        self.parts = {}
        self.index = {}
        self._held.clear()
        self._seen = None

    def _at(self, name: str) -> str:
        return f"{self._folder}/{name}"

    # -- writing --------------------------------------------------------------------------
    def make(self, layout: Layout, capture_id: str | None) -> None:
        """Make the folder; in one that exists, leave the mark."""
        if self._options != ParquetOptions():
            raise Refused("config-invalid", "options tell how files are read, not written")
        self.refresh()
        self._may_be_ours()
        with self._place.exclusively(self._folder):
            self.refresh()
            self._may_be_ours()
            manifest = self.manifest or Manifest(collection=self.name, schema=layout)
            self._commit(
                msgspec.structs.replace(manifest, capture_id=capture_id or manifest.capture_id)
            )

    def _may_be_ours(self) -> None:
        if self.manifest is None and self.parts:
            raise Refused("target-not-empty", self._foreign_place)

    def mark(self, **marks: Any) -> None:
        """Change what the manifest says of whose copy it is."""
        with self._changing() as manifest:
            self._commit(msgspec.structs.replace(manifest, **marks))

    def wipe(self) -> None:
        """Take every part away, and the mark; whoever wrote them."""
        if not self.refresh():
            return
        layout, parts = self.layout, list(self.parts.values())
        with self._place.exclusively(self._folder):
            empty = Manifest(
                collection=self.name,
                schema=layout,
                following=0 if self.manifest is None else self.manifest.following,
            )
            if self.manifest is None:
                # Beside a manifest another program's files would be in the way.
                for part in parts:
                    self._place.remove(part.path)
            self._forget()
            self._commit(empty)
            for part in parts:
                self._place.remove(part.path)

    def change(self, points: Sequence[Point], gone: Iterable[PointId]) -> None:
        """Write points, and remove others: all of it, durably, or nothing."""
        with self._changing() as manifest:
            wheres = [self.index.get(each) for each in (*(p.id for p in points), *gone)]
            stale = [where for where in wheres if where is not None]
            if not points and not stale:
                return
            written = [
                self._write(manifest.following + number, [table])
                for number, table in enumerate(
                    tables_of(points, self.layout.vectors, scoped=self.layout.scoped)
                )
            ]
            self._replace(manifest, written, stale, finished=manifest.finished)
            self._gather(finished=manifest.finished)

    def finish(self) -> None:
        """Gather the small parts, and write those anew that hold rows which count no more."""
        with self._changing():
            self._gather(finished=True)
            assert self.manifest is not None
            if not self.manifest.finished:
                self._commit(msgspec.structs.replace(self.manifest, finished=True))

    def _gather(self, *, finished: bool) -> None:
        """
        Bring the small parts of one shape together: while a copy goes on, those that fill a
        part, and at its end all.
        """
        shapes: dict[str, list[PartEntry]] = {}
        assert self.manifest is not None
        for entry in self.manifest.parts:
            small = entry.bytes < self._settings.part_bytes // 2
            if small or (finished and entry.deleted):
                shapes.setdefault(self.parts[entry.name].shape, []).append(entry)
        for alike in shapes.values():
            enough = sum(entry.bytes for entry in alike) >= self._settings.part_bytes
            if finished or enough:
                for some in self._filled(alike):
                    if len(some) > 1 or (finished and some[0].deleted):
                        self._join(some)

    def _filled(self, entries: Iterable[PartEntry]) -> Iterator[list[PartEntry]]:
        """These, in groups that each fill a part."""
        some: list[PartEntry] = []
        for entry in entries:
            if some and sum(e.bytes for e in some) + entry.bytes > self._settings.part_bytes:
                yield some
                some = []
            some.append(entry)
        if some:
            yield some

    def _join(self, entries: Sequence[PartEntry]) -> None:
        assert self.manifest is not None
        kept: list[tuple[Part, list[int]]] = []
        for entry in entries:
            part = self.parts[entry.name]
            rows = [row for row in range(part.rows) if row not in part.deleted]
            if rows:
                kept.append((part, rows))
        written = []
        if kept:
            tables = row_groups(part.table(rows) for part, rows in kept)
            written.append(self._write(self.manifest.following, tables))
        stale = [(entry.name, row) for entry in entries for row in range(entry.rows)]
        self._replace(self.manifest, written, stale, finished=self.manifest.finished)

    def _write(self, number: int, tables: Iterable[Any]) -> PartEntry:
        name = manifests.part_name(number)
        path = self._at(name)
        write = partial(write_part, tables=tables, compression=self._settings.compression)
        put = self._place.put(path, write)
        self._add(path, None)
        rows = self.parts[name].rows
        return PartEntry(name=name, rows=rows, bytes=put.bytes, sha256=put.sha256)

    def _replace(
        self,
        manifest: Manifest,
        written: Sequence[PartEntry],
        stale: Iterable[Where],
        *,
        finished: bool,
    ) -> None:
        """Bring parts into force, and rows out of it."""
        dead: dict[str, set[int]] = {}
        for name, row in stale:
            dead.setdefault(name, set()).add(row)
        left, emptied = [], []
        for entry in manifest.parts:
            deleted = tuple(sorted({*entry.deleted, *dead.get(entry.name, ())}))
            if len(deleted) < entry.rows:
                left.append(msgspec.structs.replace(entry, deleted=deleted))
            else:
                emptied.append(entry)
        self._commit(
            msgspec.structs.replace(
                manifest,
                parts=(*left, *written),
                following=manifest.following + len(written),
                finished=finished,
            )
        )
        for name, rows in dead.items():
            part = self.parts[name]
            part.deleted |= rows
            for row in rows:
                point_id = part.ids[row]
                if point_id is not None and self.index.get(point_id) == (name, row):
                    del self.index[point_id]
        for entry in emptied:
            del self.parts[entry.name]
            self._place.remove(self._at(entry.name))
        self._held.clear()

    def _commit(self, manifest: Manifest) -> None:
        path = self._at(manifests.NAME)
        data = manifests.encode(manifest)
        try:
            self._place.put(path, lambda sink: sink.write(data))
        except OutcomeUnknown:
            self._forget()
            raise
        self.manifest = manifest
        self._seen = self._place.stamp(path)

    @contextmanager
    def _changing(self) -> Iterator[Manifest]:
        """Nobody else changes the folder meanwhile. Raises Refused."""
        self._ours()
        with self._place.exclusively(self._folder):
            manifest = self._ours()
            if not self._swept:
                self._sweep(manifest)
                self._swept = True
            try:
                yield manifest
            except BaseException:
                # Parts may lie there that are not in force, and are in the index.
                self._forget()
                self._swept = False
                raise

    @property
    def _foreign_place(self) -> str:
        return f"{self.place} was written by another program, and is only read"

    def _ours(self) -> Manifest:
        if not self.refresh():
            raise Refused("target-missing", f"there is no {self.place}")
        if self.manifest is None:
            raise Refused("unsupported", self._foreign_place)
        return self.manifest

    def _sweep(self, manifest: Manifest) -> None:
        """Take away what a process left behind that died."""
        listed = {entry.name for entry in manifest.parts}
        for found in self._place.within(self._folder) or []:
            name = found.name.removesuffix(TMP)
            ours = manifests.is_ours(name) or name == manifests.NAME
            if ours and found.name not in {*listed, manifests.NAME}:
                self._place.remove(self._at(found.name))


def listed(place: Place) -> list[str]:
    """The collections of a directory, sorted. A file whose name is not as we write it is none:
    nobody would find it by the name of a collection.
    """
    names = set()
    for found in place.within("") or []:
        stem = found.name
        if not found.is_folder:
            if not stem.endswith(_SUFFIX):
                continue
            stem = stem.removesuffix(_SUFFIX)
        name = name_of(stem)
        if found.is_folder:
            within = {each.name for each in place.within(stem) or []}
            if manifests.NAME in within:
                path = f"{stem}/{manifests.NAME}"
                with suppress(Refused):  # who asks for the collection is told
                    name = manifests.decode(place.read(path), place.show(path)).collection
            elif not any(each.endswith(_SUFFIX) for each in within):
                continue
        if name is not None and stem_of(name) == stem and not stem.startswith((".", "_")):
            names.add(name)
    return sorted(names)
