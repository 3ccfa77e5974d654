"""
Sections that are told apart by their `kind`.

A base class stands in the declarations where a section may be one of several kinds that they do
not know; the variants say which there are. Without drivers, and without a list of stores.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

import msgspec

Section = type[msgspec.Struct]
Variants = Mapping[Section, Mapping[str, Section]]
"""Base of a section → kind → the section of that kind."""


def kind_of(section: msgspec.Struct) -> str:
    """The kind of a section."""
    return str(section.__struct_config__.tag)


def options(wanted: Any, variants: Variants) -> list[Any]:
    """What a key may hold: the members of a union, each base replaced by its variants."""
    members = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    return [
        option
        for member in members
        for option in (variants[member].values() if member in variants else (member,))
    ]


def kinds(members: list[Any]) -> dict[str, Section]:
    """The section of each `kind` among the members of a union; empty where it has none."""
    return {
        str(member.__struct_config__.tag): member
        for member in members
        if isinstance(member, type) and issubclass(member, msgspec.Struct)
        if member.__struct_config__.tag is not None
    }
