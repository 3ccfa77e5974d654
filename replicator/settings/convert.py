"""
Plain TOML values to settings, with the path of whatever does not fit.

The declarations of `settings` are the schema: their types are walked beside the data. This is
our own walk, rather than msgspec's, because its errors are read by people: they name the path
as it stands in the file, the nearest key that exists, and what a duration looks like.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from replicator.errors import Refused
from replicator.settings.credentials import without_credentials
from replicator.settings.settings import Settings
from replicator.settings.units import Duration, Secret, Size
from replicator.settings.variants import Section, Variants, kinds, options

_DEPTH_MAX = 32
_NUMBER = re.compile(r"\[\d+\]")


def convert(value: object, wanted: Any, variants: Variants, path: str = "") -> Any:
    """
    A value of the type `wanted`, where `path` says it stands. Raises Refused
    ("config-unknown-key", "config-invalid") naming the path.
    """
    origin = get_origin(wanted)
    if wanted is Any:
        return _json_value(value, path, _DEPTH_MAX)
    if wanted in (Duration, Size):
        return _quantity(value, wanted, path)
    if origin in (Union, types.UnionType) or wanted in variants:
        return _union(value, options(wanted, variants), variants, path)
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return _struct(value, wanted, variants, path)
    if origin is Literal:
        return _literal(value, get_args(wanted), path)
    if origin is list:
        (item,) = get_args(wanted)
        return [
            convert(each, item, variants, f"{path}[{number}]")
            for number, each in enumerate(_typed(value, list, path))
        ]
    if origin is dict:
        item = get_args(wanted)[1]
        return {
            name: convert(each, item, variants, step(path, name))
            for name, each in _typed(value, dict, path).items()
        }
    return _scalar(value, wanted, path)


def members(settings: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The keys of a section, with type and default."""
    return {field.name: field for field in msgspec.structs.fields(settings)}


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """A key's default; msgspec.NODEFAULT where it must be given."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def step(path: str, name: str) -> str:
    """A path one key longer, quoted as TOML would where it must be."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    quoted = name if bare else f'"{name}"'
    return f"{path}.{quoted}" if path else quoted


def invalid(path: str, message: str) -> Refused:
    """The error for a value that does not fit."""
    return Refused("config-invalid", without_credentials(f"{path}: {message}"))


def _struct(value: object, wanted: Section, variants: Variants, path: str) -> msgspec.Struct:
    table = _typed(value, dict, path)
    tag_field = wanted.__struct_config__.tag_field
    known = members(wanted)
    for name in table:
        if name not in known and name != tag_field:
            raise _unknown_key(name, wanted, variants, path)
    given: dict[str, Any] = {}
    for name, field in known.items():
        if name in table:
            given[name] = convert(table[name], field.type, variants, step(path, name))
        elif field.required:
            raise invalid(step(path, name), "is missing, and has no default")
    return wanted(**given)


def _union(value: object, members: list[Any], variants: Variants, path: str) -> Any:
    tagged = kinds(members)
    if tagged:
        return _struct(value, _chosen(value, tagged, path), variants, path)
    plain = [member for member in members if member is not types.NoneType]
    # TOML has no null: None is for what is left out.
    listed = [member for member in plain if get_origin(member) is list]
    if listed and isinstance(value, list):
        plain = listed
    elif len(plain) > len(listed):
        plain = [member for member in plain if member not in listed]
    assert len(plain) == 1, "settings have no unions but by kind, of a list and one, or of none"
    return convert(value, plain[0], variants, path)


def _chosen(value: object, tagged: dict[str, Section], path: str) -> Section:
    table = _typed(value, dict, path)
    where = step(path, "kind")
    choices = ", ".join(tagged)
    if "kind" not in table:
        raise invalid(where, f"is missing; it is one of {choices}")
    kind = _typed(table["kind"], str, where)
    if kind not in tagged:
        near = difflib.get_close_matches(kind, tagged, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise invalid(where, f"is one of {choices}, not {kind!r}{hint}")
    return tagged[kind]


def _literal(value: object, choices: tuple[Any, ...], path: str) -> Any:
    if value in choices and type(value) is type(choices[0]):
        return value
    near = difflib.get_close_matches(str(value), [str(each) for each in choices], 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(str(each) for each in choices)
    raise invalid(path, f"is one of {listed}, not {value!r}{hint}")


def _quantity(value: object, wanted: type[Duration | Size], path: str) -> Duration | Size:
    try:
        quantity = wanted.parse(value)
        finite = math.isfinite(quantity)
    except (ValueError, OverflowError) as exc:
        raise invalid(path, str(exc)) from exc
    if not finite:
        raise invalid(path, "is too large")
    return quantity


def _scalar(value: object, wanted: Any, path: str) -> Any:
    if wanted is Secret:
        return Secret(_typed(value, str, path))
    if wanted is float:
        number = float(_typed(value, (float, int), path))
        if not math.isfinite(number):
            raise invalid(path, "is not a finite number")
        return number
    return _typed(value, wanted, path)


_WORDS: dict[Any, str] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "a list",
    dict: "a table",
    float: "a number",
}


def _typed(value: object, wanted: Any, path: str) -> Any:
    exact = wanted if isinstance(wanted, tuple) else (wanted,)
    # By exact type: a truth value is an integer to Python, and to no reader of the file.
    if type(value) in exact:
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise invalid(path, "does not fit in 64 bits")
        return value
    # Never the value itself, which may be a secret in the wrong place.
    got = _WORDS.get(type(value), type(value).__name__)
    raise invalid(path or "the file", f"must be {_WORDS[exact[0]]}, not {got}")


def _json_value(value: object, path: str, depth: int) -> Any:
    if depth == 0:
        raise invalid(path, f"is nested deeper than {_DEPTH_MAX} levels")
    if isinstance(value, dict):
        return {
            name: _json_value(each, step(path, name), depth - 1) for name, each in value.items()
        }
    if isinstance(value, list):
        return [
            _json_value(each, f"{path}[{number}]", depth - 1)
            for number, each in enumerate(value)
        ]
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(path, "is not a finite number")
    if type(value) not in (str, int, float, bool):
        raise invalid(path, "is a date or time: write it as a string, as payloads hold it")
    return _typed(value, type(value), path)


def _unknown_key(name: str, section: Section, variants: Variants, path: str) -> Refused:
    where = step(path, name)
    # `uri` is as near to `url` as this, and nearer than a `uri` of another section.
    near = difflib.get_close_matches(name, members(section), 1, cutoff=0.66)
    hint = (
        f"; did you mean {step(path, near[0])}?"
        if near
        else _elsewhere(name, section, variants, path)
    )
    return Refused("config-unknown-key", without_credentials(f"{where} is not a setting{hint}"))


def _elsewhere(name: str, section: Section, variants: Variants, path: str) -> str:
    """A hint for a key that exists under another kind or in another section, or is misspelt."""
    places = _places(Settings, variants, "")
    here = _NUMBER.sub("[]", path)
    config = section.__struct_config__
    for place, key, kind in places:
        if key == name and kind is not None and place == here and kind != config.tag:
            return f" of kind {config.tag!r}; it belongs to kind {kind!r}"
    for place, key, kind in places:
        if key == name:
            suffix = f" (kind {kind!r})" if kind else ""
            return f" here; did you mean {step(place, key)}{suffix}?"
    near = difflib.get_close_matches(name, members(section), 1)
    return f"; did you mean {step(path, near[0])}?" if near else ""


def _places(
    section: Section, variants: Variants, path: str
) -> list[tuple[str, str, str | None]]:
    """Every key there is: its section's path, its name, and the kind that has it."""
    found: list[tuple[str, str, str | None]] = []
    tag = section.__struct_config__.tag
    for name, field in members(section).items():
        found.append((path, name, str(tag) if tag is not None else None))
        inner = step(path, name)
        repeated = get_origin(field.type) is list
        for option in get_args(field.type) if repeated else options(field.type, variants):
            if isinstance(option, type) and issubclass(option, msgspec.Struct):
                found.extend(_places(option, variants, f"{inner}[]" if repeated else inner))
    return found
