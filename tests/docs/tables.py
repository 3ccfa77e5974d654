"""
The tables of the documentation that the code knows better than a person does.

`python -m tests.docs.tables` writes them between the marks of the pages; the tests compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
from prometheus_client.metrics import MetricWrapperBase

from replicator.cli.main import cli
from replicator.cli.stores import sentences, summary
from replicator.errors import CHANGELOG_HINTS, CODES
from replicator.failpoints import PLACES
from replicator.kinds import kinds, variants
from replicator.metrics import Metrics
from replicator.migration.cutover.gate import BLOCKERS
from replicator.settings.convert import default_of, members
from replicator.settings.reference import field_docs, in_toml, reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def errors() -> Iterator[str]:
    """Every error code and what to do about it."""
    yield "| code | what to do |"
    yield "| --- | --- |"
    for code, hint in sorted(CODES.items()):
        yield f"| `{code}` | {_cell(hint)} |"


def changelog() -> Iterator[str]:
    """What to do about a code where the feed is a change log, if that is something else."""
    yield "| code | what to do |"
    yield "| --- | --- |"
    for code, hint in sorted(CHANGELOG_HINTS.items()):
        yield f"| `{code}` | {_cell(hint)} |"


def blockers() -> Iterator[str]:
    """Every reason for a closed gate."""
    yield "| blocker | what to do |"
    yield "| --- | --- |"
    for code, hint in sorted(BLOCKERS.items()):
        yield f"| `{code}` | {_cell(hint)} |"


def failpoints() -> Iterator[str]:
    """Every place at which a test can stop the process."""
    yield "| place | what is true there |"
    yield "| --- | --- |"
    for place, sentence in PLACES.items():
        yield f"| `{place}` | {_cell(sentence)} |"


def metrics() -> Iterator[str]:
    """Every metric as Prometheus sees it."""
    yield "| metric | type | labels | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, kind, labels, text in sorted(declared_metrics()):
        shown = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {kind} | {shown} | {_cell(text)} |"


def declared_metrics() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Name, type, labels and help of each metric."""
    registry = Metrics("docs", "0").registry
    for family in registry.collect():
        collector = registry._names_to_collectors[family.name]
        assert isinstance(collector, MetricWrapperBase)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, tuple(collector._labelnames), family.documentation


def commands() -> Iterator[str]:
    """Every command with its options."""
    for words, command in declared_commands():
        if isinstance(command, click.Group) and not words:
            continue
        context = click.Context(command, info_name=" ".join(["replicator", *words]))
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"## `replicator {' '.join(words)}`"
        yield ""
        yield f"    {context.info_name} {usage}"
        yield ""
        yield from _help(command)
        rows = [_option(parameter, context) for parameter in command.params]
        rows = [row for row in rows if row]
        if rows:
            yield "| option | meaning |"
            yield "| --- | --- |"
            yield from rows
            yield ""


def declared_commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that name it, groups before their parts."""

    def walk(
        words: tuple[str, ...], command: click.Command
    ) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                part = command.get_command(context, name)
                assert part is not None
                yield from walk((*words, name), part)

    return walk((), cli)


def connectors() -> Iterator[str]:
    """Every kind of store: what it is, and its settings."""
    for kind in kinds().values():
        yield f"## `{kind.name}`"
        yield ""
        yield summary(kind)
        yield ""
        if kind.url is not None:
            examples = (f"`{each}`" for each in kind.url.example.split(", "))
            yield f"As a URL: {', '.join(examples)}"
            yield ""
        yield "| of | what is true |"
        yield "| --- | --- |"
        for subject, sentence in sentences(kind.traits):
            yield f"| {subject} | {_cell(sentence)} |"
        yield ""
        yield "| setting | default | meaning |"
        yield "| --- | --- | --- |"
        docs = field_docs(kind.settings)
        for name, field in members(kind.settings).items():
            default = None if field.required else default_of(field)
            shown = "must be given" if field.required else "absent"
            if default is not None:
                shown = f"`{in_toml(default)}`"
            yield f"| `{name}` | {_cell(shown)} | {_cell(docs[name])} |"
        yield ""
        if kind.settings.options is not None:
            yield from _options(kind.settings.options)


def _options(options: type[msgspec.Struct]) -> Iterator[str]:
    """The options of a collection, which all have a default."""
    yield "| option of a collection | default | meaning |"
    yield "| --- | --- | --- |"
    docs = field_docs(options)
    for name, field in members(options).items():
        yield f"| `{name}` | `{in_toml(default_of(field))}` | {_cell(docs[name])} |"
    yield ""


TABLES: dict[str, tuple[Path, Callable[[], Iterator[str]]]] = {
    "errors": (DOCS / "errors.md", errors),
    "changelog": (DOCS / "errors.md", changelog),
    "blockers": (DOCS / "errors.md", blockers),
    "failpoints": (DOCS / "failpoints.md", failpoints),
    "metrics": (DOCS / "metrics.md", metrics),
    "commands": (DOCS / "commands.md", commands),
    "connectors": (DOCS / "connectors.md", connectors),
}


def made(name: str) -> str:
    """A table as it must stand in its page, without the marks."""
    return "\n".join(TABLES[name][1]()).strip()


def standing(name: str) -> str:
    """A table as it stands in its page."""
    found = _between(name).search(TABLES[name][0].read_text(encoding="utf-8"))
    assert found, f"{TABLES[name][0].name} has no place for the table {name!r}"
    return found["table"].strip()


def write(name: str) -> None:
    """Put a table into its page."""
    path = TABLES[name][0]
    text = path.read_text(encoding="utf-8")
    standing(name)
    table = made(name)
    path.write_text(
        _between(name).sub(lambda m: f"{m['begin']}\n\n{table}\n\n{m['end']}", text),
        encoding="utf-8",
    )


def _between(name: str) -> re.Pattern[str]:
    begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    return re.compile(
        f"(?P<begin>{re.escape(begin)})(?P<table>.*?)(?P<end>{re.escape(end)})", re.DOTALL
    )


def _help(command: click.Command) -> Iterator[str]:
    for paragraph in (command.help or "").split("\n\n"):
        if "\b" in paragraph:  # click's mark for lines that must stay as they are
            yield from (
                f"    {line.strip()}" for line in paragraph.splitlines() if line != "\b"
            )
        else:
            yield " ".join(paragraph.split())
        yield ""


def _option(parameter: click.Parameter, context: click.Context) -> str:
    record = parameter.get_help_record(context)
    if record is None:
        return ""
    names, text = record
    return f"| `{_cell(names)}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for table in TABLES:
        write(table)
    (ROOT / "config/reference.toml").write_text(reference(variants()), encoding="utf-8")
