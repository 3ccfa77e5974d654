"""Models before anything is written: which may not be mixed, and which do not work."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.errors import Refused, ReplicatorError, Unavailable
from replicator.migration.evidence.standing import Standing
from replicator.migration.preflight.checks import run_checks
from replicator.migration.preflight.plan import make_plan
from replicator.migration.preflight.routes import wanted_target
from replicator.model.finding import Severity
from replicator.model.point import Point
from replicator.model.schema import Distance, VectorSchema
from replicator.model.write import Upsert
from replicator.settings.embedding import ContractSettings, EmbedSettings, ModelSettings
from replicator.settings.fingerprint import fingerprint
from replicator.settings.transform import TransformSettings
from replicator.stream.embedding import Models
from replicator.stream.reading import Reader
from tests.migration.rig import World
from tests.stream.embedding_rig import SIZE, Kept, Model
from tests.stream.rig import BOOKS, vector, virtual

ADA = ModelSettings(model="ada-002", provider="openai", normalised=True)
MINI = ModelSettings(model="minilm", dimension=SIZE, normalised=False)
EMBED = EmbedSettings(function="models:embed", fields=["text"], size=SIZE)


def world_of(
    embed: dict[str, EmbedSettings] | None = None,
    **contract: Any,
) -> World:
    world = World()
    for number in range(10):
        payload = {"text": "x" * number} if number else {"text": "the first"}
        world.source.write("books", Upsert(Point(number, {"v": vector()}, payload)))
    [collection] = world.settings.collections
    collection = msgspec.structs.replace(
        collection,
        transform=TransformSettings(embed=embed or {}),
        embedding=ContractSettings(**contract),
    )
    world.settings = msgspec.structs.replace(world.settings, collections=[collection])
    return world


async def found(world: World, model: Model | None = None) -> list[tuple[Severity, str, str]]:
    findings = await run_checks(
        world.settings,
        source=Reader(world.source.attach()),
        target=Reader(world.target.attach()),
        feed=world.log.attach(),
        standing=Standing(None, {world.log.name(0): 0}),
        models=Models({"models:embed": model or Model()}, Kept()),
    )
    return [(each.severity, each.code, each.message) for each in findings]


def codes(findings: list[tuple[Severity, str, str]]) -> list[str]:
    return [code for severity, code, _ in findings if severity is Severity.BLOCKS]


@virtual
@pytest.mark.parametrize(
    ("contract", "embed", "says"),
    [
        ({"source": ADA, "target": MINI}, {}, "model 'minilm' instead of 'ada-002'"),
        ({"source": ADA, "target": MINI}, {}, "normalised False instead of True"),
        ({"source": ADA, "target": ADA}, {}, None),
        # What is not said contradicts nothing.
        ({"source": ModelSettings(model="ada-002"), "target": ADA}, {}, None),
        ({"target": MINI}, {}, "embedding.target.dimension is 4, and the vector 'v' has 2"),
        ({"source": ADA}, {}, None),
        # The vector that travels is still of the old model.
        ({"source": ADA, "target": MINI}, {"new": EMBED}, "travels as it is"),
        ({"source": ADA, "target": MINI, "vectors": ["new"]}, {"new": EMBED}, None),
        ({"source": ADA, "target": MINI}, {"v": EMBED}, None),
        (
            {"target": msgspec.structs.replace(MINI, dimension=9)},
            {"v": EMBED},
            "embedding.target.dimension is 9, and the vector 'v' has 4",
        ),
        (
            {"target": msgspec.structs.replace(MINI, metric="dot")},
            {"v": EMBED},
            "embedding.target.metric is dot, and the vector 'v' is compared by cosine",
        ),
        (
            {"source": ModelSettings(model="a", metric="cosine")},
            {},
            "embedding.source.metric is cosine, and the vector 'v' is compared by dot",
        ),
    ],
)
async def test_vectors_of_one_model_never_meet_queries_of_another(
    contract: dict[str, Any], embed: dict[str, EmbedSettings], says: str | None
) -> None:
    findings = await found(world_of(embed, **contract))
    assert set(codes(findings)) == (set() if says is None else {"embedding-mismatch"}), findings
    if says is not None:
        assert any(says in message for _, _, message in findings)


@virtual
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("embedder-away", "no network"), "embedder-away"),
        (Refused("embedder-broken", "no such thing"), "embedder-broken"),
    ],
)
async def test_a_model_that_does_not_work_blocks(error: ReplicatorError, code: str) -> None:
    model = Model()
    model.errors = [error]
    assert codes(await found(world_of({"v": EMBED}), model)) == [code]
    model.takes_s = 120
    findings = await found(world_of({"v": EMBED}), model)
    assert codes(findings) == ["embedder-away"]
    assert "did not answer within 60 s" in findings[0][2]
    model.takes_s, model.size = 0, 3
    findings = await found(world_of({"v": EMBED}), model)
    assert codes(findings) == ["embedder-broken"]
    assert "answers vectors of 3 dimensions, and `size` is 4" in findings[0][2]


@virtual
async def test_rows_without_a_text_are_told_before_they_are_letters() -> None:
    embed = msgspec.structs.replace(EMBED, fields=["body"])
    findings = await found(world_of({"v": embed}))
    assert codes(findings) == ["text-missing"]
    assert "all of the sampled rows" in findings[0][2]
    lenient = msgspec.structs.replace(embed, missing="omit")
    assert codes(await found(world_of({"v": lenient}))) == []


@virtual
async def test_the_target_is_made_for_the_new_vectors() -> None:
    world = world_of({"v": EMBED, "more": msgspec.structs.replace(EMBED, distance="euclid")})
    [collection] = world.settings.collections
    wanted = await wanted_target(collection, BOOKS, world.target.attach(), capture_id=None)
    assert wanted.vectors == {
        "v": VectorSchema(size=SIZE, distance=Distance.COSINE),
        "more": VectorSchema(size=SIZE, distance=Distance.EUCLID),
    }


@virtual
async def test_the_plan_says_what_it_costs() -> None:
    priced = msgspec.structs.replace(EMBED, cost=2.0, rate_max=5.0)
    world = world_of({"v": priced})
    plan = await make_plan(
        world.settings,
        source=Reader(world.source.attach()),
        target=Reader(world.target.attach()),
    )
    [collection] = plan.collections
    made = collection.embeddings["v"]
    characters = sum(range(1, 10)) + len("the first")
    assert (made.texts, made.characters) == (10, characters)
    assert (made.cost, made.seconds) == (characters * 2 / 1e6, 2.0)
    assert plan.complexity == "lossy"
    assert collection.vectors["v"].endswith("does not travel")


@virtual
async def test_how_fast_a_model_is_asked_may_change_and_which_it_is_may_not() -> None:
    def prints(**given: Any) -> str:
        return fingerprint(world_of({"v": msgspec.structs.replace(EMBED, **given)}).settings)

    same = prints()
    assert prints(batch=1, parallel=3, rate_max=1.0, cost=1.0) == same
    assert prints(function="models:other") != same
    assert prints(fields=["title"]) != same
