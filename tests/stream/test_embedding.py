"""Vectors made anew: paid for once, waited for, and never of another length."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import pytest

from replicator.errors import Refused, Rejected, ReplicatorError, Unavailable
from replicator.metrics import Metrics
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Point
from replicator.model.write import Patch, Upsert, Write
from replicator.ports.transform import Row
from replicator.settings.embedding import ContractSettings, ModelSettings
from replicator.stream.embedding import Embeddings, Models
from tests.stream.embedding_rig import Desk, Kept, Model, collection, made_of
from tests.stream.rig import key, vector, virtual

BAD = Rejected("text-refused", "too long")
AWAY = Unavailable("embedder-away", "no network")


def row(number: int, **payload: object) -> Row:
    return Row(key(number), Point(number, {"v": vector()}, payload))


def vector_in(write: Write | Rejected) -> object:
    assert isinstance(write, Upsert)
    return write.point.vectors.get("text")


@virtual
async def test_texts_become_vectors_beside_those_that_travel() -> None:
    desk = Desk()
    [one, two] = await desk.transform.writes([row(1, title="a", text="b"), row(2, text="c")])
    assert one == Upsert(
        Point(1, {"v": vector(), "text": made_of("a\nb")}, {"title": "a", "text": "b"})
    )
    assert vector_in(two) == made_of("c")


@virtual
async def test_what_came_under_the_name_of_a_new_vector_does_not_travel() -> None:
    desk = Desk()
    point = Point(1, {"text": vector(7), "v": vector()}, {"text": "b"})
    [write] = await desk.transform.writes([Row(key(1), point)])
    assert vector_in(write) == made_of("b")
    assert desk.transform.target_vector("text") is None
    patch = ChangeEvent(op=Op.PATCH, key=key(1), ts_ms=1, vectors={"text": vector(3)})
    assert await desk.transform.writes([patch]) == [Patch(id=1)]
    removed = ChangeEvent(op=Op.PATCH, key=key(1), ts_ms=1, unset_vectors=("text",))
    assert await desk.transform.writes([removed]) == [Patch(id=1)]


@virtual
async def test_the_same_text_is_asked_for_once() -> None:
    desk = Desk(collection(batch=2))
    rows = [row(n, text=text) for n, text in enumerate("abacb")]
    first = await desk.transform.writes(rows)
    assert desk.model.asked == [["a", "b"], ["c"]]
    assert await desk.transform.writes(rows) == first
    later = Desk()
    later.kept.vectors = desk.kept.vectors
    assert await later.transform.writes(rows) == first
    assert later.model.asked == []


@virtual
async def test_another_model_is_another_vector() -> None:
    kept = Kept()
    for number, version in enumerate(("1", "2", "2")):
        target = ModelSettings(model="m", version=version)
        desk = Desk(
            msgspec.structs.replace(collection(), embedding=ContractSettings(target=target))
        )
        desk.embeddings = Embeddings(Models({"models:embed": desk.model}, kept), desk.patience)
        await desk.transform.writes([row(1, text="a")])
        assert len(desk.model.asked) == (number < 2)
    assert len(kept.vectors) == 2


@virtual
async def test_a_text_that_the_model_refuses_hides_no_other() -> None:
    desk = Desk()
    desk.model.refuses = {"c": BAD}
    writes = await desk.transform.writes([row(n, text=text) for n, text in enumerate("abcde")])
    assert writes[2] is BAD
    assert [vector_in(writes[n]) for n in (0, 1, 3, 4)] == [made_of(text) for text in "abde"]
    assert ["c"] in desk.model.asked
    assert len(desk.kept.vectors) == 4


@virtual
@pytest.mark.parametrize(
    ("error", "code"),
    [(AWAY, "embedder-away"), (Refused("embedder-broken", "no"), "embedder-broken")],
)
async def test_a_model_that_is_away_is_waited_for_and_the_wait_is_seen(
    error: ReplicatorError, code: str
) -> None:
    desk = Desk()
    desk.model.errors = [error, error]
    asking = asyncio.create_task(desk.transform.writes([row(1, text="a")]))
    await asyncio.sleep(0.01)
    assert desk.patience.trouble is not None
    assert desk.patience.trouble.code == code
    [write] = await asking
    assert vector_in(write) == made_of("a")
    assert desk.patience.trouble is None


@virtual
async def test_a_vector_of_another_length_is_never_written() -> None:
    desk = Desk()
    desk.model.size = 3
    asking = asyncio.create_task(desk.transform.writes([row(1, text="a")]))
    await asyncio.sleep(1)
    trouble = desk.patience.trouble
    assert trouble is not None
    assert "answers vectors of 3 dimensions, and `size` is 4" in trouble.message
    assert desk.kept.vectors == {}
    desk.model.size = 4  # a person mends it
    [write] = await asking
    assert vector_in(write) == made_of("a")


@virtual
async def test_a_model_that_answers_no_numbers_refuses_the_text_alone() -> None:
    desk = Desk()
    right = desk.model.embed

    async def odd(texts: list[str]) -> list[bytes]:
        vectors = await right(texts)
        nan = b"\0\0\xc0\x7f" * 4
        return [nan if text == "b" else v for text, v in zip(texts, vectors, strict=True)]

    desk.model.embed = odd  # type: ignore[assignment, method-assign]
    writes = await desk.transform.writes([row(n, text=text) for n, text in enumerate("abc")])
    assert isinstance(writes[1], Rejected)
    assert (writes[1].code, writes[1].path) == ("vector-not-finite", 'vectors."text"')
    assert vector_in(writes[2]) == made_of("c")


@virtual
async def test_a_cache_that_fails_is_waited_for() -> None:
    desk = Desk()
    full = Unavailable("embedding-cache", "disk full")
    get = desk.kept.get
    desk.kept.errors = [full]
    asking = asyncio.create_task(desk.transform.writes([row(1, text="a")]))
    await asyncio.sleep(0.001)
    assert desk.patience.trouble is not None

    async def then_full(keys: Iterable[bytes]) -> dict[bytes, bytes]:
        found = await get(keys)
        desk.kept.errors = [full, full]  # of the next call, which keeps
        return found

    desk.kept.get = then_full  # type: ignore[method-assign]
    [write] = await asking
    assert vector_in(write) == made_of("a")
    assert len(desk.kept.vectors) == 1


@virtual
async def test_no_more_calls_are_under_way_than_allowed() -> None:
    for parallel in (1, 3):
        desk = Desk(collection(parallel=parallel, batch=1))
        desk.model.takes_s = 1.0
        transform = desk.transform
        await asyncio.gather(*(transform.writes([row(n, text=f"{n}")]) for n in range(6)))
        assert desk.model.most_at_once == parallel


@virtual
async def test_texts_come_at_the_pace_that_is_set() -> None:
    desk = Desk(collection(rate_max=2.0, batch=2))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    asking = asyncio.create_task(desk.transform.writes([row(n, text=f"{n}") for n in range(8)]))
    await asyncio.sleep(0.5)
    [wait] = desk.patience.waits.all
    assert (wait.code, wait.planned) == ("embedding-rate", True)
    await asking
    assert loop.time() - begun == pytest.approx(3.0, abs=0.1)


@virtual
async def test_a_point_without_a_text_is_a_letter_or_goes_without() -> None:
    items = [row(1, title=" ", text=None), row(2, title=7)]
    [none, number] = await Desk().transform.writes(items)
    assert isinstance(none, Rejected)
    assert (none.code, none.path) == ("text-missing", "payload.title")
    assert isinstance(number, Rejected)
    assert (number.code, number.path) == ("transform-failed", "payload.title")
    [without, number] = await Desk(collection(missing="omit")).transform.writes(items)
    assert without == Upsert(Point(1, {"v": vector()}, {"title": " ", "text": None}))
    assert isinstance(number, Rejected)


@virtual
async def test_only_a_patch_of_a_text_needs_the_image() -> None:
    transform = Desk().transform

    def patch(**given: object) -> ChangeEvent:
        return ChangeEvent(op=Op.PATCH, key=key(1), ts_ms=1, **given)  # type: ignore[arg-type]

    assert transform.needs_image(patch(set={"title": "x"}))
    assert transform.needs_image(patch(unset=("text",)))
    assert not transform.needs_image(patch(set={"year": 1}, unset=("lang",)))
    assert not transform.needs_image(
        ChangeEvent(op=Op.UPSERT, key=key(1), ts_ms=1, payload={"title": "x"})
    )


@virtual
async def test_who_answered_is_counted() -> None:
    metrics = Metrics("m", "0")
    model, kept = Model(), Kept()
    desk = Desk()
    embeddings = Embeddings(Models({"models:embed": model}, kept), desk.patience, metrics)
    transform = embeddings.joined(desk.fields)
    for _ in range(2):
        await transform.writes([row(1, text="a"), row(2, text="b")])
    sample = metrics.registry.get_sample_value
    for who in ("cache", "model"):
        labels = {"migration": "m", "answered_by": who}
        assert sample("replicator_embedded_texts_total", labels) == 2


def test_a_collection_that_makes_nothing_anew_keeps_its_pure_transform() -> None:
    desk = Desk()
    plain = msgspec.structs.replace(desk.settings, transform=type(desk.settings.transform)())
    desk.settings = plain
    fields = desk.fields
    assert Embeddings(None, desk.patience).joined(fields) is fields
    assert fields.pure
    assert fields.target_id(Key("books", 1)) == 1
