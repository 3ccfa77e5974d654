"""
What must hold within a transform, so that no field is lost or overwritten without a word. The
order of the steps decides: keep, drop, default, cast, rename, constant, computed.
"""

from __future__ import annotations

import re

from replicator.errors import Refused
from replicator.settings.convert import step
from replicator.settings.embedding import EmbedSettings
from replicator.settings.transform import TransformSettings

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check_transform(transform: TransformSettings, path: str) -> None:
    """Raises Refused("transform-invalid") with the path of the first rule broken."""
    for name in transform.drop:
        if name in (transform.keep or ()):
            raise _bad(f"{path}.drop", f"{name!r} is both kept and dropped")
    for role, names in (("cast", transform.cast), ("rename", transform.rename)):
        for name in names:
            gone = name in transform.drop or (
                transform.keep is not None and name not in transform.keep
            )
            # A default may bring back what keep and drop took away.
            if gone and name not in transform.default:
                raise _bad(step(f"{path}.{role}", name), "does not travel: see keep and drop")
    _check_renames(transform, path)
    _check_vector_names(transform.vectors or {}, path)
    _check_made(transform, path)


def _check_made(transform: TransformSettings, path: str) -> None:
    """What does not come from the source as it is."""
    for name in transform.constant.keys() & transform.computed.keys():
        raise _bad(step(f"{path}.computed", name), "is a constant too")
    for name, size in transform.truncate.items():
        at = step(f"{path}.truncate", name)
        if size < 1:
            raise _bad(at, "is 1 or more")
        if name in transform.embed:
            raise _bad(at, "is made anew, of the size that it says there")
    for name, embed in transform.embed.items():
        at = step(f"{path}.embed", name)
        if name in (transform.vectors or {}).values():
            raise _bad(at, "a vector of the source is given this name too; leave one out")
        _check_embed(embed, at)


def _check_embed(embed: EmbedSettings, path: str) -> None:
    if not _FUNCTION.fullmatch(embed.function):
        raise _bad(f"{path}.function", "is `module:name`, as in `models:embed`")
    if not embed.fields:
        raise _bad(f"{path}.fields", "names no field to take the text from")
    if len(set(embed.fields)) < len(embed.fields):
        raise _bad(f"{path}.fields", "names a field twice")
    for key in ("size", "batch", "parallel"):
        if getattr(embed, key) < 1:
            raise _bad(f"{path}.{key}", "is 1 or more")
    for key in ("rate_max", "cost"):
        if getattr(embed, key) < 0:
            raise _bad(f"{path}.{key}", "is not negative")


def _check_renames(transform: TransformSettings, path: str) -> None:
    travelling = {*(transform.keep or ()), *transform.default, *transform.cast}
    arrived: dict[str, str] = {}
    for name, renamed in transform.rename.items():
        at = step(f"{path}.rename", name)
        if not renamed:
            raise _bad(at, "has an empty new name")
        if renamed in arrived:
            raise _bad(at, f"{arrived[renamed]!r} is renamed to {renamed!r} too")
        if renamed in travelling and renamed not in transform.rename:
            raise _bad(at, f"{renamed!r} is a field that travels itself")
        for role in ("constant", "computed"):
            if renamed in getattr(transform, role):
                raise _bad(step(f"{path}.{role}", renamed), f"{name!r} is renamed to it")
        arrived[renamed] = name


def _check_vector_names(vectors: dict[str, str], path: str) -> None:
    arrived: dict[str, str] = {}
    for name, renamed in vectors.items():
        if renamed in arrived:
            at = step(f"{path}.vectors", name)
            raise _bad(at, f"{arrived[renamed]!r} becomes {renamed!r} too")
        arrived[renamed] = name


def _bad(path: str, message: str) -> Refused:
    return Refused("transform-invalid", f"{path}: {message}")
