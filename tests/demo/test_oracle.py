from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from replicator.codecs.events import EventDecoder
from replicator.demo.corpus import documents
from replicator.demo.embedder import embed
from replicator.demo.emitter import event
from replicator.demo.oplog import Image, Operation, OperationLog, read_operations, replay
from replicator.demo.oracle import compare, expected_at_target
from replicator.demo.schema import SOURCE, source_payload, target_payload
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition, Record

VECTOR = embed("a text").tobytes()


def upsert(key: int, **payload: object) -> Operation:
    return Operation(
        op="upsert", id=key, at_ms=1, store="source", vector=VECTOR, payload=dict(payload)
    )


def patch(key: int, *unset: str, **fields: object) -> Operation:
    return Operation(
        op="patch", id=key, at_ms=2, store="source", set=dict(fields), unset=list(unset)
    )


def delete(key: int) -> Operation:
    return Operation(op="delete", id=key, at_ms=3, store="source")


def test_the_log_survives_the_file_and_replays_to_the_last_word_on_each_key(
    tmp_path: Path,
) -> None:
    log = OperationLog(tmp_path / "operations.jsonl")
    for operation in (
        upsert(1, a=1, b="x"),
        patch(1, "b", a=2, c=[1.5, None]),
        upsert(2, a=1),
        delete(2),
        patch(2, a=9),
        upsert(3, a=1),
        delete(3),
        upsert(3, a=2),
    ):
        log.append(operation)
    log.close()
    assert replay(read_operations(tmp_path / "operations.jsonl")) == {
        1: Image(VECTOR, {"a": 2, "c": [1.5, None]}),
        3: Image(VECTOR, {"a": 2}),
    }


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        ({1: Image(VECTOR, {"a": 5})}, (0, 0, 0)),
        ({}, (1, 0, 0)),
        ({1: Image(VECTOR, {"a": 5}), 2: Image(VECTOR, {})}, (0, 1, 0)),
        ({1: Image(VECTOR, {"a": 5.0})}, (0, 0, 1)),
        ({1: Image(VECTOR, {"a": 5, "b": None})}, (0, 0, 1)),
        ({1: Image(embed("another").tobytes(), {"a": 5})}, (0, 0, 1)),
        ({1: Image(VECTOR[:-4], {"a": 5})}, (0, 0, 1)),
    ],
)
def test_the_comparison_sees_every_kind_of_difference(
    found: dict[int, Image], counts: tuple[int, int, int]
) -> None:
    outcome = compare({1: Image(VECTOR, {"a": 5})}, found)
    assert (outcome.missing, outcome.extra, outcome.different) == counts
    assert outcome.equal == (counts == (0, 0, 0))


def test_the_comparison_forgives_the_last_digit_of_a_float32() -> None:
    blurred = (np.frombuffer(VECTOR, "<f4") * np.float32(1 + 1e-6)).tobytes()
    assert compare({1: Image(VECTOR, {"a": 0.1})}, {1: Image(blurred, {"a": 0.1})}).equal


def test_an_event_written_by_hand_is_read_as_the_contract_says() -> None:
    decoder = EventDecoder({SOURCE: True}, 1 << 20)
    partition = Partition("changelog/0")

    def read(operation: Operation) -> ChangeEvent:
        key, value = event(operation, "writer-1")
        read = decoder.decode(Record(partition, 1, key, value, 0))
        assert read is not None
        return read

    written = upsert(7, a=1)
    written.version = 3
    whole = read(written)
    assert (whole.op, whole.key, whole.version) == (Op.UPSERT, Key(SOURCE, 7), 3)
    assert (whole.vectors, whole.payload) == ({"": VECTOR}, {"a": 1})
    part = read(patch(7, "b", a=2))
    assert (part.op, part.set, part.unset, part.vectors) == (Op.PATCH, {"a": 2}, ("b",), {})
    assert read(delete(7)).op is Op.DELETE


def test_the_target_holds_public_documents_only_in_its_own_terms() -> None:
    public, private = (
        next(document for document in documents(500) if document.private is wanted)
        for wanted in (False, True)
    )
    images = {
        1: Image(VECTOR, source_payload(public)),
        2: Image(VECTOR, source_payload(private)),
    }
    [(key, image)] = expected_at_target(images).items()
    assert key == 1
    assert image.payload["title"] == public.name
    assert image.payload["size"] == len(public.text)
    assert "name" not in image.payload
    assert target_payload(images[2].payload)["visibility"] == "private"
