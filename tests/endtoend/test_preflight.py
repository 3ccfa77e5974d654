"""Nothing is touched before everything is known; `check` and `run` are one judgement."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from tests.endtoend.application import DIMENSION, Application
from tests.endtoend.daemon import Daemon
from tests.endtoend.events import ChangelogSink
from tests.endtoend.processes import free_port
from tests.endtoend.rig import Rig

Changelog = tuple[ChangelogSink, dict[str, Any]]


class Case:
    """A migration of thirty rows that nothing stands in the way of, to be spoilt."""

    def __init__(self, app: Application, daemon: Daemon) -> None:
        self.app = app
        self.daemon = daemon
        self.options: list[str] = []
        """Of `check` and of `run`."""

    @property
    def names(self) -> tuple[str, str]:
        [collection] = self.app.collections
        return collection.source, collection.target

    def change(self, part: str, **values: Any) -> None:
        """Change the configuration; `collections` means the one that there is."""
        place = self.daemon.document[part]
        (place[0] if isinstance(place, list) else place).update(values)
        self.daemon.rewrite()

    async def fill_target(self, size: int = DIMENSION) -> None:
        """Live points of somebody else."""
        _, target = self.names
        await self.app.target.create_collection(
            target, vectors_config=models.VectorParams(size=size, distance=models.Distance.DOT)
        )
        point = models.PointStruct(id=4711, vector=[1.0] * size, payload={"live": True})
        await self.app.target.upsert(target, [point], wait=True)

    async def codes(self) -> tuple[int, list[str]]:
        """What `check` says: its exit code, and the codes that block."""
        code, out, err = await self.daemon.command("check", "--json", *self.options)
        told = json.loads(out)
        assert err == ""
        if isinstance(told, dict):
            return code, [told["error"]["code"]]
        return code, [each["code"] for each in told if each["severity"] == "blocks"]


async def nothing(_: Case) -> None:
    """There is nothing in the way."""


async def typo(case: Case) -> None:
    await case.fill_target()
    case.change("collections", source="a-name-that-is-not-there")
    case.options = ["--wipe-target", case.names[1]]


async def typo_of_the_second(case: Case) -> None:
    """The first collection alone could be wiped and copied."""
    await case.fill_target()
    case.daemon.document["collections"].append({"source": "not-there", "target": "nor-here"})
    case.daemon.rewrite()
    case.options = ["--wipe-target", case.names[1]]


async def live_target(case: Case) -> None:
    await case.fill_target()


async def other_dimensions(case: Case) -> None:
    await case.fill_target(DIMENSION + 5)
    case.options = ["--wipe-target", case.names[1]]


async def unknown_vector(case: Case) -> None:
    await case.fill_target()
    case.change("collections", transform={"vectors": {"title": "text"}})
    case.options = ["--wipe-target", case.names[1]]


async def short_settle(case: Case) -> None:
    await case.fill_target()
    case.change("source", staleness="5s")
    case.options = ["--wipe-target", case.names[1]]


async def no_change_log(case: Case) -> None:
    await case.fill_target()
    case.change("feed", path=str(case.daemon.directory / "nowhere.db"))
    case.options = ["--wipe-target", case.names[1]]


async def ids_that_cannot_be_kept(case: Case) -> None:
    """The target does not exist yet: what its ids may be is known all the same."""
    source = case.daemon.directory / "files"
    source.mkdir()
    rows = [f'{{"id": "text {n}", "vectors": {{"": [1, 2, 3, 4]}}}}\n' for n in range(9)]
    schema = '{"vectors": {"": {"kind": "dense", "size": 4, "distance": "dot"}}}'
    head = f'{{"replicator": 1, "collection": "texts", "schema": {schema}}}\n'
    (source / "texts.jsonl").write_text(head + "".join(rows))
    case.daemon.document["source"] = {"kind": "jsonl", "path": str(source)}
    case.change("collections", source="texts", ids="keep", transform={})


async def aborted_copy(case: Case) -> None:
    assert await case.daemon.run("--until", "backfilled") == 0
    assert (await case.daemon.command("abort", "--yes"))[0] == 0


async def another_plan(case: Case) -> None:
    assert await case.daemon.run("--until", "backfilled") == 0
    case.change("collections", transform={"drop": ["title"]})


async def open_to_everyone(case: Case) -> None:
    case.change("http", listen="0.0.0.0:0")


async def target_away(case: Case) -> None:
    case.change("target", url=f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("spoil", "exit_code", "code"),
    [
        (nothing, 0, None),
        (typo, 2, "source-missing"),
        (typo_of_the_second, 2, "source-missing"),
        (live_target, 2, "target-not-empty"),
        (other_dimensions, 2, "target-incompatible"),
        (unknown_vector, 2, "transform-invalid"),
        (short_settle, 2, "settle-short"),
        (no_change_log, 2, "topic-missing"),
        (ids_that_cannot_be_kept, 2, "id-invalid"),
        (aborted_copy, 2, "target-not-empty"),
        (another_plan, 2, "plan-changed"),
        (open_to_everyone, 2, "config-invalid"),
        (target_away, 3, "target-unavailable"),
    ],
)
async def test_what_check_says_blocks_run_before_it_touches_anything(
    rig: Rig,
    stores: tuple[str, str],
    changelog: Changelog,
    spoil: Callable[[Case], Awaitable[None]],
    exit_code: int,
    code: str | None,
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=30)
    case = Case(app, rig.daemon(stores, collections, feed))
    await spoil(case)
    before = await held(app.target)

    told, codes = await case.codes()
    assert (told, codes[:1]) == (exit_code, [] if code is None else [code])
    assert await held(app.target) == before, "a check changes nothing"

    assert await case.daemon.run("--until", "backfilled", *case.options) == exit_code
    if code is not None:
        assert f"error[{code}]" in case.daemon.child.tail()
        assert await held(app.target) == before


async def held(client: AsyncQdrantClient) -> dict[str, list[tuple[Any, Any]]]:
    """Everything that a store holds."""
    found: dict[str, list[tuple[Any, Any]]] = {}
    for collection in (await client.get_collections()).collections:
        points, _ = await client.scroll(collection.name, limit=1000, with_vectors=True)
        found[collection.name] = [(point.id, point.payload) for point in points]
    return found


async def test_a_typo_in_an_import_leaves_the_target_as_it_is(
    rig: Rig, stores: tuple[str, str], changelog: Changelog, tmp_path: Path
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=5)
    case = Case(app, rig.daemon(stores, collections, feed))
    await case.fill_target()
    files = tmp_path / "files"
    files.mkdir()
    (files / "another-name.jsonl").write_text('{"id": 1, "vectors": {"": [1, 2, 3, 4]}}\n')
    before = await held(app.target)

    code, out, _ = await case.daemon.command(
        "import", str(files), "--json", "--wipe-target", case.names[1]
    )

    assert code == 2
    assert json.loads(out)["error"]["code"] == "source-missing"
    assert await held(app.target) == before
