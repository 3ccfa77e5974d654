"""Two stores given as URLs, as the configuration of a plain copy from the one to the other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from replicator.errors import Refused
from replicator.kinds import kinds, variants
from replicator.model.store_url import StoreUrl, read_store_url
from replicator.settings.convert import convert, members
from replicator.settings.credentials import without_credentials
from replicator.settings.load import from_toml
from replicator.settings.patterns import OWN_NAME
from replicator.settings.stores import store_address
from replicator.settings.units import Secret

if TYPE_CHECKING:
    from replicator.ports.kind import StoreKind
    from replicator.settings.settings import Settings

_TAG_CHARS = 8
"""Of the digest in a name: four billion, for the copies of one folder."""


class Addressed(msgspec.Struct, frozen=True):
    """The configuration, and its text, in which secrets are names of the environment."""

    settings: Settings
    text: str


def addressed(
    source: str,
    target: str,
    *,
    accept: Sequence[str] = (),
    recall_min: float | None = None,
    folder: Path,
) -> Addressed:
    """
    The plain copy from one URL to another, with its state in `folder`. It is named by what it
    copies where: the same URLs go on with the same copy. Raises Refused("bad-request",
    "unsupported") for a URL, and as `settings.load` does.
    """
    sides = {"source": _read("source", source), "target": _read("target", target)}
    collection: dict[str, Any] = {}
    document: dict[str, Any] = {"name": "migrate"}
    for side, url in sides.items():
        kind = _kind_of(url)
        document[side], options = _section(side, url, kind)
        collection[side] = _collection(url, kind)
        if options:
            collection[f"{side}_options"] = options
    document["collections"] = [collection | ({"accept": list(accept)} if accept else {})]
    document["feed"] = {"kind": "none"}
    if recall_min is not None:
        document["verify"] = {"recall_min": recall_min}
    name = "-to-".join(url.kind for url in sides.values())
    name = document["name"] = f"{name}-{_tag(_load(document), collection)}"
    document["state"] = {"path": _plain(str(folder / f"{name}.db"))}
    return Addressed(_load(document), _in_toml(document))


def _tag(settings: Settings, collection: Mapping[str, Any]) -> str:
    """Of what is copied where. Credentials, limits and accepted losses are not in it."""
    plan = [store_address(settings.source), store_address(settings.target), collection]
    encoded = msgspec.json.encode(plan, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:_TAG_CHARS]


def _read(side: str, text: str) -> StoreUrl:
    try:
        return read_store_url(text)
    except ValueError as exc:
        shown = without_credentials(text)
        raise Refused(
            "bad-request", f"the {side}, {shown}, is no URL of a store: {exc}"
        ) from exc


def _load(document: dict[str, Any]) -> Settings:
    return from_toml(document, os.environ, variants())


def _kind_of(url: StoreUrl) -> StoreKind:
    known = ", ".join(kinds())
    if url.kind not in kinds():
        raise Refused(
            "bad-request", f"there is no kind of store {url.kind!r}; there are {known}"
        )
    return kinds()[url.kind]


def _collection(url: StoreUrl, kind: StoreKind) -> str:
    """As the configuration names it."""
    assert kind.url is not None
    if url.collection is None:
        return OWN_NAME
    return "" if url.collection == kind.url.nameless else _plain(url.collection)


def _section(
    side: str, url: StoreUrl, kind: StoreKind
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The section of a store, and the options of its collection."""
    if kind.url is None:
        raise Refused(
            "unsupported",
            f"a store of the kind {kind.name!r} cannot be written as a URL: make a"
            f" configuration, `replicator init --{side} {kind.name} --feed none`",
        )
    try:
        placed = kind.url.section(url)
    except ValueError as exc:
        raise Refused(
            "bad-request",
            f"the {side} is no URL of a store of the kind {kind.name!r}, such as"
            f" {kind.url.example}: {exc}",
        ) from exc
    section: dict[str, Any] = {
        "kind": kind.name,
        **{key: _plain(value) for key, value in placed.items()},
    }
    known, kept = members(kind.settings), _options_of(kind)
    options: dict[str, Any] = {}
    for name, text in url.given.items():
        if name in section:
            raise Refused("bad-request", f"the {side}: {name} stands in the URL already")
        if name in known:
            section[name] = _value(side, name, text, known[name])
        elif name in kept:
            options[name] = _value(side, name, text, kept[name])
        else:
            raise Refused(
                "bad-request",
                f"the {side}: {name!r} is no setting of the kind {kind.name!r}; there are"
                f" {', '.join([*known, *kept])}",
            )
    for name, field in known.items():
        if field.type is Secret and name not in section:
            section[name] = f"${{{side.upper()}_{name.upper()}:-}}"
    return section, options


def _options_of(kind: StoreKind) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {} if kind.settings.options is None else members(kind.settings.options)


def _value(side: str, name: str, text: str, field: msgspec.structs.FieldInfo) -> Any:
    """A setting, out of its text: as it stands, or else as the number or the word it spells."""
    if field.type is Secret:
        raise Refused(
            "bad-request",
            f"the {side}: {name} is a secret, and is taken from the environment:"
            f" {side.upper()}_{name.upper()}",
        )
    try:
        convert(text, field.type, {}, name)
    except Refused:
        try:
            return json.loads(text)
        except ValueError:
            pass  # what is wrong with it is told where the whole is read
    return _plain(text)


def _plain(text: str) -> str:
    """A text in which nothing stands for a variable of the environment."""
    return text.replace("${", "$${")


def _in_toml(document: Mapping[str, Any]) -> str:
    """A document of tables, each of them flat but for the list of collections."""
    tables = {name: value for name, value in document.items() if isinstance(value, dict)}
    lines = [
        f"{name} = {_literal(value)}" for name, value in document.items() if name not in tables
    ]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_literal(v)}" for key, v in table.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    match value:
        case dict():
            inner = ", ".join(f"{key} = {_literal(each)}" for key, each in value.items())
            return f"{{ {inner} }}"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case _:
            # A string of JSON is one of TOML, once the one character is escaped that JSON
            # leaves as it is.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
