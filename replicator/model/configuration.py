"""
Configurations side by side: what a person wishes, what the plan says, what there is.

A configuration is a set of settings, each a path and a value: `("shard_number",)`,
`("vectors", "title", "hnsw_config", "m")`, `("indexes", "body", "stemmer", …)`. The neutral
facts of a schema (distance, precision, index types) are settings like the others. So nothing
here knows what a store calls its settings, and a setting that is new is compared like the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import Any

import msgspec

from replicator.errors import Refused
from replicator.losses import RESULTS_CHANGE, loss_code
from replicator.model.finding import SettingDifference
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    Precision,
    VectorIndex,
    VectorSchema,
)
from replicator.model.traits import VectorRules

Path = tuple[str, ...]


def settings_of(schema: CollectionSchema, *, abroad: bool = False) -> dict[Path, Any]:
    """
    Every setting of a collection. An empty document is a setting too: it says "on". `abroad`:
    as a store of another kind may understand them, neutral words in place of the native ones
    that they restate.
    """
    found = dict(_leaves((), schema.native))
    if abroad:
        found = _without(found, (), schema.restated)
    for name, vector in (schema.vectors or {}).items():
        place = ("vectors", name)
        if vector.distance is not None:
            found[*place, "distance"] = vector.distance.value
        if vector.precision is not Precision.FLOAT32:
            found[*place, "precision"] = vector.precision.value
        native = dict(_leaves(place, vector.native))
        found |= _without(native, place, vector.restated) if abroad else native
        if abroad or schema.native_kind is None:
            found |= {(*place, word): value for word, value in _in_words(vector.index)}
    for field, kind in schema.indexes.items():
        found["indexes", field, "type"] = kind
        found |= _leaves(("indexes", field), schema.index_options.get(field, {}))
    return found


def configuration_differences(
    wanted: CollectionSchema, actual: CollectionSchema, accept: Collection[str] = ()
) -> list[SettingDifference]:
    """
    Where a collection is not as wanted. In one that a replicator made every setting counts; in
    one that a person made beforehand only those that change answers, for the rest is theirs to
    say. What a store adds by itself (its defaults) is no difference in the one, and named in
    the other.
    """
    return [difference for _, difference in _differences(wanted, actual, accept)]


def lost_settings(
    asked: CollectionSchema, planned: CollectionSchema, accept: Collection[str] = ()
) -> list[SettingDifference]:
    """
    What the plan lacks of what was asked for, but for what a person chose. To a store of
    another kind the source's own settings mean nothing: they are named, and only what changes
    answers blocks.
    """
    made = msgspec.structs.replace(planned, made=not _is_abroad(asked, planned))
    return [
        difference
        for path, difference in _differences(asked, made, accept)
        if _top(path) not in planned.chosen
    ]


def with_options(schema: CollectionSchema, options: Mapping[str, Any]) -> CollectionSchema:
    """
    The schema with what a person chose for the target put over it. Raises
    Refused("config-invalid") for what is no option.
    """
    if not options:
        return schema
    rest = {name: value for name, value in options.items() if name not in _PARTS}
    vectors = dict(schema.vectors or {})
    for name, given in _table(options.get("vectors", {}), "vectors").items():
        if name not in vectors:
            raise _bad(f"vectors.{name}", "is no vector of the target")
        vectors[name] = _vector_with(vectors[name], _table(given, f"vectors.{name}"), name)
    indexes, index_options = dict(schema.indexes), dict(schema.index_options)
    for field, given in _table(options.get("indexes", {}), "indexes").items():
        chosen = dict(_table(given, f"indexes.{field}"))
        kind = chosen.pop("type", indexes.get(field))
        if not isinstance(kind, str):
            raise _bad(f"indexes.{field}", "is no index of the source: give its `type`")
        if kind != indexes.get(field):
            index_options.pop(field, None)
        indexes[field] = kind
        index_options[field] = merged(index_options.get(field, {}), chosen)
    return msgspec.structs.replace(
        schema,
        vectors=None if schema.vectors is None else vectors,
        native=merged(schema.native, rest),
        indexes=indexes,
        index_options=index_options,
        chosen=tuple(dict.fromkeys(_top(_renamed(path)) for path, _ in _leaves((), options))),
    )


def neutral(schema: CollectionSchema, rules: VectorRules) -> CollectionSchema:
    """What a store without settings of its own makes of it."""
    vectors = schema.vectors
    return msgspec.structs.replace(
        schema,
        vectors=None
        if vectors is None
        else {
            name: msgspec.structs.replace(
                vector,
                precision=rules.kept(vector.precision),
                native={},
                index=VectorIndex(),
                restated=(),
            )
            for name, vector in vectors.items()
        },
        native={},
        restated=(),
        native_kind=None,
        index_options={},
    )


def _is_abroad(one: CollectionSchema, other: CollectionSchema) -> bool:
    return one.native_kind != other.native_kind


def _in_words(index: VectorIndex) -> Iterator[tuple[str, Any]]:
    for field in index.__struct_fields__:
        value = getattr(index, field)
        if value is not None:
            word = _INDEX_WORDS.get(field, field)
            yield word, value.value if isinstance(value, Enum) else value


def _without(
    settings: dict[Path, Any], place: Path, restated: Collection[str]
) -> dict[Path, Any]:
    gone = {(*place, *path.split(".")) for path in restated}
    return {path: value for path, value in settings.items() if path not in gone}


_PARTS = ("vectors", "indexes")
_INDEX_WORDS = {
    "kind": "vector_index",
    "m": "vector_index_m",
    "ef_construction": "vector_index_ef_construction",
    "lists": "vector_index_lists",
}
"""Of a `VectorIndex`, what its fields are called as settings, and by their loss's code."""


def _leaves(place: Path, document: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _leaves((*place, name), value)
        else:
            yield (*place, name), value


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        # Settings pass through float32 on some ways.
        return abs(value - other) <= 1e-6 * max(abs(value), abs(other))
    return bool(value == other and type(value) is type(other))


def _differences(
    wanted: CollectionSchema, actual: CollectionSchema, accept: Collection[str]
) -> Iterator[tuple[Path, SettingDifference]]:
    if actual.vectors is None:
        return  # a store that says nothing of itself: what is not known is no difference
    abroad = _is_abroad(wanted, actual)
    ours, theirs = settings_of(wanted, abroad=abroad), settings_of(actual, abroad=abroad)
    for path, value in ours.items():
        if not _same(value, theirs.get(path)):
            yield path, _difference(path, value, theirs.get(path), actual.made, accept)
    for path, value in theirs.items():
        added = path[-1] == "precision" or (not actual.made and _is_news(path, ours))
        if added and path not in ours:
            yield path, _difference(path, None, value, actual.made, accept)


def _top(path: Path) -> Path:
    """The setting as a whole, of which a path names a part."""
    return path[:3] if path[0] in _PARTS else path[:1]


def _renamed(path: Path) -> Path:
    """`datatype` is what Qdrant calls the precision."""
    return (*path[:2], "precision") if path[2:] == ("datatype",) else path


def _is_news(path: Path, ours: Mapping[Path, Any]) -> bool:
    """Whether a setting belongs to a part that the wanted configuration says nothing of."""
    return _top(path) not in {_top(known) for known in ours}


def _difference(
    path: Path, wanted: Any, actual: Any, made: bool, accept: Collection[str]
) -> SettingDifference:
    code = _code(path)
    matters = made or code in RESULTS_CHANGE or path[2:4] == ("index", "datatype")
    if code == "loss-precision":
        # Finer than wanted is no loss.
        kept = Precision(actual or "float32")
        matters = not kept.holds(Precision(wanted or "float32"))
    elif code == "loss-index" and wanted is None:
        matters = False  # one index more
    return SettingDifference(
        code=code,
        setting=".".join(word or "(unnamed)" for word in path),
        wanted=wanted,
        actual=actual,
        blocks=matters and code not in accept,
    )


def _code(path: Path) -> str:
    match path:
        case ("vectors", _, name, *_):
            return loss_code(name)
        case ("indexes", _, "type"):
            return "loss-index"
        case ("indexes", _, name, *_):
            return loss_code(name, "index")
        case _:
            return loss_code(path[0])


def _vector_with(vector: VectorSchema, given: Mapping[str, Any], name: str) -> VectorSchema:
    chosen = dict(given)
    changes: dict[str, Any] = {}
    for word, field, kind in (
        ("distance", "distance", Distance),
        ("datatype", "precision", Precision),
    ):
        if word in chosen:
            value = str(chosen.pop(word)).lower()
            try:
                changes[field] = kind(value)
            except ValueError:
                listed = ", ".join(each.value for each in kind)
                raise _bad(f"vectors.{name}.{word}", f"is one of {listed}") from None
    for word in ("size", "kind"):
        if word in chosen:
            raise _bad(f"vectors.{name}.{word}", "is the data's, and cannot be chosen")
    return msgspec.structs.replace(vector, **changes, native=merged(vector.native, chosen))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """
    One document over another. A table goes into a table; `false` in the place of one takes it
    away, for TOML has no null: `quantization_config = false` is none.
    """
    found = dict(below)
    for name, value in above.items():
        there = found.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            found[name] = merged(there, value)
        elif value is False and isinstance(there, dict):
            del found[name]
        else:
            found[name] = value
    return found


def _table(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(path, "is a table")
    return value


def _bad(path: str, message: str) -> Refused:
    return Refused("config-invalid", f"target_options.{path}: {message}")
