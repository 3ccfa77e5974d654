"""Kinds of stores: ours, those of other packages, and that nobody else names one."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import replicator
from replicator.errors import Refused
from replicator.kinds import kinds, variants
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from tests.kinds.conftest import brings

ROOT = Path(replicator.__file__).parent
OUTSIDE = ("demo", "testing", "local_store", "cli/local_store.py", "kinds.py")
"""The demonstration is an application, and the local store a product that speaks Qdrant."""


def kind_module(tag: str) -> str:
    """A kind of store of somebody else's."""
    return f'''
from replicator.model.schema import IdKinds
from replicator.model.traits import IdRules, Traits, VectorRules
from replicator.ports.kind import StoreKind
from replicator.settings.stores import StoreSettings


class TheirSettings(StoreSettings, tag="{tag}", tag_field="kind", frozen=True):
    """Theirs."""

    place: str
    """Where."""

    def address(self):
        return self.place

    def problems(self):
        if self.place == "nowhere":
            yield "place", "is nowhere"


KIND = StoreKind(
    settings=TheirSettings,
    traits=Traits(ids=IdRules(kinds=IdKinds.UUID), vectors=VectorRules(), marks=False),
    example='kind = "{tag}"',
    open=lambda settings, page_bytes: (settings, page_bytes),
)
'''


def settings(**source: str) -> Settings:
    """A configuration with this source."""
    return from_toml(
        {
            "name": "articles",
            "source": source,
            "target": {"kind": "jsonl", "path": "out"},
            "collections": [{"source": "a", "target": "a"}],
            "feed": {"kind": "none"},
        },
        {},
        variants(),
    )


def test_a_package_of_its_own_brings_a_kind(package: Path) -> None:
    (package / "their_store.py").write_text(kind_module("theirs"))
    brings(package, "their_store", {"theirs": "their_store:KIND"})
    found = kinds()["theirs"]
    told = settings(kind="theirs", place="here")
    assert isinstance(told.source, found.settings)
    assert found.open(told.source, 7) == (told.source, 7)
    with pytest.raises(Refused) as caught:
        settings(kind="theirs", place="nowhere")
    assert caught.value.message.startswith("source.place: is nowhere")


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("jsonl", kind_module("jsonl"), "has the name of another"),
        ("theirs", kind_module("ours"), "calls itself 'ours'"),
        ("theirs", "KIND = 5", "is no StoreKind"),
        ("theirs", kind_module("theirs").replace("address", "place_of"), "without an address"),
        ("theirs", "import no_such_driver", "cannot be loaded"),
    ],
)
def test_a_package_that_brings_none_is_named(
    package: Path, name: str, body: str, why: str
) -> None:
    module = f"broken_{package.name}".replace("-", "_")
    (package / f"{module}.py").write_text(body)
    brings(package, module, {name: f"{module}:KIND"})
    with pytest.raises(Refused) as caught:
        kinds()
    assert caught.value.code == "kind-broken"
    assert why in caught.value.message


def test_no_driver_is_loaded_to_know_the_kinds() -> None:
    heavy = ["grpc", "qdrant_client", "pinecone", "aiokafka", "aiosqlite", "numpy"]
    heavy += ["chromadb", "aiohttp"]
    code = (
        "import sys; from replicator.kinds import kinds; kinds(); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("name", kinds())
def test_nothing_outside_its_folder_names_a_kind(name: str) -> None:
    assert [str(p) for p in outsiders() if names(p.read_text(encoding="utf-8"), name)] == []


def test_a_name_would_be_found() -> None:
    assert names('kind = "qdrant"', "qdrant")
    assert names("from replicator.connectors.qdrant.kind import QDRANT", "qdrant")
    assert names("match x:\n    case QdrantSettings():\n        ...", "qdrant")
    assert not names('"""As Qdrant does."""\nx = 1', "qdrant")


def outsiders() -> Iterator[Path]:
    """Every file that is no connector, and none of those that may name one."""
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith(("connectors/", *OUTSIDE)):
            yield path


def names(text: str, kind: str) -> bool:
    """Whether code names a kind of store; prose may."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Constant(value=str(value)) if value == kind or f'"{kind}"' in value:
                return True
            case ast.ImportFrom(module=str(module)) if f"connectors.{kind}" in module:
                return True
            case ast.Name(id=identifier) if identifier.lower().startswith(kind):
                return True
            case _:
                pass
    return False
