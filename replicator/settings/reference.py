"""
The reference of all settings, made from their declarations.

`make docs` writes config/reference.toml; a test holds the file to it. A line `#name = value`
shows a key that may be left out, with its default; prose has a space after the `#`. So the file
is a valid configuration as it stands, and stays one with any of those lines uncommented.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from replicator.settings.convert import default_of, members, step
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings
from replicator.settings.units import Duration, Size
from replicator.settings.variants import Section, Variants, kinds, options

_WIDTH = 92

_A_NAME = "text"
"""Stands for the name of a section that a person names."""

EXAMPLES: dict[str, str] = {
    "name": '"articles"',
    "collections.source": '"articles"',
    "collections.target": '"articles_v2"',
    "collections.scopes": '"*"',
    "collections.vectors_required": '["text"]',
    "collections.transform.filter": ('{ must = [{ key = "lang", match = { value = "en" } }] }'),
    "collections.transform.keep": '["title", "lang", "year"]',
    "collections.transform.vectors": '{ "" = "text" }',
    "collections.transform.embed.text.function": '"models:embed"',
    "collections.transform.embed.text.fields": '["title", "body"]',
    "collections.transform.embed.text.size": "384",
    "collections.embedding.vectors": '["text"]',
    "collections.embedding.source.model": '"text-embedding-ada-002"',
    "collections.embedding.source.normalised": "true",
    "collections.embedding.target.model": '"all-MiniLM-L6-v2"',
    "collections.embedding.target.normalised": "true",
    "feed.tables.collection": '"articles"',
    "feed.bootstrap_servers": '"localhost:9092"',
    "feed.topic": '"articles.changes"',
    "feed.path": '"var/changes.db"',
    "cutover.fence.url": '"http://localhost:9000/fence"',
    "cutover.switch.url": '"http://localhost:9000/switch"',
    "cutover.switch.aliases": '["articles_live"]',
    "hooks.before_fence.command": '["./notify.sh", "fence"]',
    "hooks.after_fence.command": '["./notify.sh", "fenced"]',
    "hooks.before_switch.command": '["./notify.sh", "switch"]',
    "hooks.after_switch.command": '["./notify.sh", "switched"]',
    "hooks.after_open.command": '["./notify.sh", "open"]',
}
"""Values for keys that have no default to show, as TOML."""

_HEAD = """\
Every setting, with its meaning and default. Made from the declarations of the settings:
make docs

Keys without a `#` have no default and must be given, or it is said. `#name = value` shows a
default, or an example where it says so. Strings take ${NAME} and ${NAME:-default} from the
environment; `$${` is a plain `${`. Durations are strings with a unit (250ms, 30s, 5m, 24h, 7d),
and so are sizes (512B, 64KiB, 16MiB, 1GiB).\
"""


def reference(variants: Variants) -> str:
    """The text of config/reference.toml. `variants` are the kinds of stores that there are."""
    blocks = [_prose(_HEAD), *_section(Settings, "", variants, live=True)]
    return "\n\n".join(blocks) + "\n"


def _section(
    settings: Section, path: str, variants: Variants, *, live: bool, repeated: bool = False
) -> Iterator[str]:
    """A table and those within it, each a block of lines."""
    docs = field_docs(settings)
    lines: list[str] = []
    inner: list[Iterator[str]] = []
    for name, field in members(settings).items():
        place = step(path, name)
        named = _named(field.type)
        section, is_list = _as_section(named or field.type, variants)
        if section is None:
            example = _examples(settings).get(name) or EXAMPLES.get(place)
            lines += [*_key_lines(name, field, docs.get(name, ""), example, live=live)]
        elif place == "target":
            inner.append(_target(docs[name], section[0]))
        else:
            optional = default_of(field) in (None, [], {})
            doc = docs.get(name, "")
            place = step(place, _A_NAME) if named else place
            inner.append(
                _choices(
                    section, place, doc, variants, live=live and not optional, repeated=is_list
                )
            )
    if path:
        tag = settings.__struct_config__.tag
        kind_line = [] if tag is None else [f'{"" if live else "#"}kind = "{tag}"']
        header = f"[[{path}]]" if repeated else f"[{path}]"
        lines = [header if live else f"#{header}", *kind_line, *lines]
    yield "\n".join(lines)
    for blocks in inner:
        yield from blocks


def _choices(
    sections: tuple[Section, ...],
    path: str,
    doc: str,
    variants: Variants,
    *,
    live: bool,
    repeated: bool,
) -> Iterator[str]:
    """A section, or one after another the kinds that it may be; the first is in force."""
    for number, option in enumerate(sections):
        tag = option.__struct_config__.tag
        own = inspect.cleandoc(option.__doc__ or "")
        text = own if tag is None else f'Kind "{tag}": {own}'
        intro = f"{doc}\n{text}" if doc and doc != text and number == 0 else text
        blocks = _section(option, path, variants, live=live and number == 0, repeated=repeated)
        yield f"{_prose(intro)}\n{next(blocks)}"
        yield from blocks


def _target(doc: str, first: Section) -> Iterator[str]:
    """The target is any of the source's kinds; its keys are not shown twice."""
    prose = _prose(doc + " Kinds and keys are those of [source].")
    yield f'{prose}\n[target]\nkind = "{first.__struct_config__.tag}"'


def _examples(section: Section) -> Mapping[str, str]:
    return section.examples if issubclass(section, StoreSettings) else {}


def _key_lines(
    name: str, field: msgspec.structs.FieldInfo, doc: str, example: str | None, *, live: bool
) -> Iterator[str]:
    choices = get_args(field.type) if get_origin(field.type) is Literal else ()
    choices = tuple(choice for choice in choices if choice)
    if choices:
        doc = f"{doc} One of {', '.join(choices)}."
    if field.required:
        assert example, f"{name} has no default to show, and no example"
        yield _prose(doc)
        yield f"{'' if live else '#'}{name} = {example}"
        return
    default = default_of(field)
    if default is None:
        assert example, f"{name} has no default to show, and no example"
        yield _prose(f"{doc} Absent by default; an example:")
        yield f"#{name} = {example}"
        return
    if example:
        yield _prose(f"{doc} {in_toml(default)} by default; an example:")
        yield f"{'' if live else '#'}{name} = {example}"
        return
    yield _prose(doc)
    yield f"#{name} = {in_toml(default)}"


def _named(wanted: Any) -> Any:
    """Of what a key holds sections by name; None where it does not."""
    value = get_args(wanted)[-1] if get_origin(wanted) is dict else None
    is_section = isinstance(value, type) and issubclass(value, msgspec.Struct)
    return value if is_section else None


def _as_section(wanted: Any, variants: Variants) -> tuple[tuple[Section, ...] | None, bool]:
    """The structs that a key may hold, and whether it holds a list of them; else None."""
    if get_origin(wanted) is list:
        section, _ = _as_section(get_args(wanted)[0], variants)
        return section, True
    sections = [each for each in options(wanted, variants) if each is not types.NoneType]
    if not all(
        isinstance(each, type) and issubclass(each, msgspec.Struct) for each in sections
    ):
        return None, False
    assert len(sections) == 1 or len(kinds(sections)) == len(sections)
    return tuple(sections), False


def in_toml(value: object) -> str:
    """A default as it would stand in the file."""
    match value:
        case bool():
            return "true" if value else "false"
        case Duration() | Size() | str():
            text = "" if not isinstance(value, (Duration, Size)) and value == "" else str(value)
            return f'"{text.strip(chr(39))}"'
        case int() | float():
            return repr(value)
        case list():
            return f"[{', '.join(map(in_toml, value))}]"
        case dict():
            assert not value, "no setting has a table for a default"
            return "{}"
        case _:
            raise AssertionError(f"no TOML for {type(value).__name__}")


def _prose(text: str) -> str:
    paragraphs = text.split("\n\n")
    wrapped = [textwrap.wrap(" ".join(each.split()), _WIDTH) for each in paragraphs]
    return "\n#\n".join("\n".join(f"# {line}" for line in lines) for lines in wrapped)


def field_docs(settings: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring below each field of a section; fields without one are left out."""
    docs: dict[str, str] = {}
    for owner in reversed(settings.__mro__):
        if owner.__module__.startswith("replicator."):
            source = ast.parse(textwrap.dedent(inspect.getsource(owner)))
            (declaration,) = source.body
            assert isinstance(declaration, ast.ClassDef)
            docs |= _docs_in(declaration)
    return docs


def _docs_in(declaration: ast.ClassDef) -> dict[str, str]:
    docs: dict[str, str] = {}
    for field, below in zip(declaration.body, declaration.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ):
                docs[name] = " ".join(doc.split())
    return docs
