"""config/reference.toml lists every setting, and everything in config/ can be read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.kinds import variants
from replicator.settings.load import from_toml, load
from replicator.settings.reference import field_docs, reference
from replicator.settings.settings import Settings

CONFIG = Path(__file__).parents[2] / "config"
TEXT = (CONFIG / "reference.toml").read_text()
SECRETS = dict.fromkeys(
    ("SOURCE_API_KEY", "TARGET_API_KEY", "KAFKA_PASSWORD", "REPLICATOR_TOKEN", "FENCE_TOKEN"),
    "s3cret",
)


def sections(settings: Any) -> Iterator[type[msgspec.Struct]]:
    """Every struct that settings are made of."""
    if isinstance(settings, type) and issubclass(settings, msgspec.Struct):
        yield settings
        for field in msgspec.structs.fields(settings):
            yield from sections(field.type)
    for part in get_args(settings):
        yield from sections(part)


ALL = sorted(
    {
        *sections(Settings),
        *(section for each in variants().values() for section in each.values()),
    }
    - variants().keys(),
    key=lambda section: section.__name__,
)


def test_the_reference_is_what_the_declarations_say_today() -> None:
    assert reference(variants()) == TEXT, "run: make docs"


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.__name__)
def test_every_setting_has_a_meaning_and_stands_in_the_reference(
    section: type[msgspec.Struct],
) -> None:
    docs = field_docs(section)
    assert section.__doc__

    prose = " ".join(re.findall(r"(?m)^# (.*)$", TEXT))
    for field in msgspec.structs.fields(section):
        is_section = next(sections(field.type), None) is not None
        if not is_section:
            assert re.search(rf"(?m)^#?{field.name} = ", TEXT), field.name
            assert docs[field.name] in prose
    kind = section.__struct_config__.tag
    if kind is not None:
        assert f'kind = "{kind}"' in TEXT


def test_the_reference_is_a_configuration() -> None:
    settings = load(CONFIG / "reference.toml", {}, variants())

    assert settings.source == QdrantSettings()


def test_the_defaults_shown_are_those_in_force() -> None:
    lines = TEXT.splitlines()
    live = True
    shown = 0
    for number, line in enumerate(lines):
        if re.match(r"#?\[", line):
            live = line[0] == "["
        example = lines[number - 1].endswith("an example:")
        if live and not example and re.match(r"#[a-z]", line):
            lines[number] = line[1:]
            shown += 1

    assert shown > 60
    assert from_toml(tomllib.loads("\n".join(lines)), {}, variants()) == load(
        CONFIG / "reference.toml", {}, variants()
    )


def test_every_line_that_is_commented_out_can_be_put_in_force() -> None:
    """Each table in turn, of every kind, with all its keys; the rest as the file has it."""
    tried = 0
    for block in TEXT.split("\n\n"):
        if re.search(r"(?m)^#[\[a-z]", block):
            document = tomllib.loads(TEXT)
            if 'kind = "weaviate"' in block:  # whose names begin with a capital letter
                document["collections"][0] |= {"source": "Articles", "target": "Articles_v2"}
            put_in_force(document, tomllib.loads(re.sub(r"(?m)^#(?=[\[a-z])", "", block)))
            from_toml(document, {}, variants())
            tried += 1
    assert tried > 18


def put_in_force(document: dict[str, Any], table: dict[str, Any]) -> None:
    ((name, value),) = table.items()
    if name == "collections":
        inner = value if isinstance(value, dict) else value[0]
        document[name][0] |= inner
    elif name == "feed" and "tables" in value:
        document[name] |= {"decoder": "debezium"} | value
    elif name in ("cutover", "hooks"):
        document[name] = document[name] | value
    else:
        document[name] = value


@pytest.mark.parametrize(
    "path",
    [CONFIG / "replicator.toml", *sorted((CONFIG / "examples").glob("*.toml"))],
    ids=lambda path: path.name,
)
def test_every_file_that_is_shipped_can_be_read(path: Path) -> None:
    load(path, SECRETS, variants())


def test_the_default_needs_no_service_and_no_variable() -> None:
    settings = load(CONFIG / "replicator.toml", {}, variants())

    assert settings.feed.__struct_config__.tag == "changelog"
    assert isinstance(settings.source, QdrantSettings)
    assert settings.source.late_write_bound == 5


def test_there_are_examples_of_each_way_to_migrate() -> None:
    names = {path.stem for path in (CONFIG / "examples").glob("*.toml")}

    assert {"kafka-qdrant", "qdrant-to-jsonl", "alias-cutover"} <= names
