"""Every transform keeps the port's laws: by fields, the identity of the way back, and one that
asks others.
"""

from __future__ import annotations

import pytest

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Op
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.traits import Lists, PayloadRules
from replicator.ports.transform import Transform
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.transform import FieldTransform, IdentityTransform
from replicator.testing.transform_conformance import TransformConformance
from tests.stream.embedding_rig import Desk, collection
from tests.stream.rig import key, vector
from tests.stream.test_route import Embedding

POINTS = [
    Point(1, {"v": vector()}, {"text": "abc", "year": "1999", "deep": {"b": [1], "a": None}}),
    Point(2, {"v": vector(2)}, {"text": "x", "year": 5}),
    Point("three", {"v": vector(3)}, {"text": "y"}),
]
PATCHES = [
    ChangeEvent(op=Op.PATCH, key=key(1), ts_ms=1, set={"deep": {"z": 1}}, unset=("year",)),
    ChangeEvent(op=Op.PATCH, key=key(1), ts_ms=1, set={"text": "longer"}),
]


class TestFieldTransform(TransformConformance):
    @pytest.fixture
    def transform(self) -> Transform:
        steps = TransformSettings(
            cast={"year": "int"},
            default={"year": 0},
            rename={"text": "body"},
            filter={"must_not": [{"key": "text", "match": {"value": "no"}}]},
        )
        settings = CollectionSettings(source="books", target="t", transform=steps)
        target = CollectionSchema(name="t", vectors=None, ids=IdKinds.UINT64 | IdKinds.UUID)
        rules = PayloadRules(nested=False, lists=Lists.NONE)
        return FieldTransform(settings, target, rules=rules)

    @pytest.fixture
    def points(self) -> list[Point]:
        return POINTS

    @pytest.fixture
    def refused(self) -> Point:
        return Point(9, {}, {"year": "soon"})

    @pytest.fixture
    def patches(self) -> list[ChangeEvent]:
        return PATCHES


class Picky(IdentityTransform):
    """The way back refuses nothing by itself."""

    def point(self, key, point):  # type: ignore[no-untyped-def]
        if not point.vectors:
            raise Rejected("transform-failed", "no vectors", "vectors")
        return super().point(key, point)


class TestIdentityTransform(TestFieldTransform):
    @pytest.fixture
    def transform(self) -> Transform:
        return Picky()


class TestEmbedding(TestFieldTransform):
    @pytest.fixture
    def transform(self) -> Transform:
        return Embedding(takes_s=0.001)


class TestEmbeddingTransform(TestFieldTransform):
    @pytest.fixture
    def transform(self) -> Transform:
        desk = Desk(collection(fields=["text"]))
        desk.model.takes_s = 0.001
        return desk.transform

    @pytest.fixture
    def refused(self) -> Point:
        return Point(9, {}, {"year": 5})
