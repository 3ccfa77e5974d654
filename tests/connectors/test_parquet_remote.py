"""
The same over an object store. `S3_ENDPOINT` names one that speaks S3 (moto's server, MinIO),
with credentials in the environment as its clients have them; without it nothing here runs.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from replicator.connectors.parquet.kind import PARQUET, ParquetSettings
from replicator.connectors.parquet.store import ParquetStore
from replicator.errors import Refused, ReplicatorError
from replicator.model.finding import Severity
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.units import Size
from replicator.testing.store_conformance import StoreConformance, floats

ENDPOINT = os.environ.get("S3_ENDPOINT", "")
needs_s3 = pytest.mark.skipif(not ENDPOINT, reason="S3_ENDPOINT names no object store")
BUCKET = "replicator-tests"


def url(endpoint: str = ENDPOINT) -> str:
    query = f"endpoint_override={endpoint}&scheme=http&region=us-east-1"
    return f"s3://{BUCKET}/{uuid.uuid4().hex}?{query}&allow_bucket_creation=true"


def opened(path: str) -> tuple[Any, str]:
    system, base = fs.FileSystem.from_uri(path)
    system.create_dir(BUCKET)
    return system, base


if ENDPOINT:  # seventy tests that are skipped would hide the others

    class TestParquetStoreOverS3(StoreConformance):
        traits = PARQUET.traits

        @pytest.fixture
        async def store(self) -> AsyncIterator[ParquetStore]:
            path = url()
            opened(path)
            store = ParquetStore(ParquetSettings(path=path, part_bytes=Size(8 << 10)))
            yield store
            await store.close()


@needs_s3
async def test_files_of_another_program_are_read_and_a_damaged_part_is_named() -> None:
    path = url()
    system, base = opened(path)
    pq.write_table(pa.table({"id": [1], "n": [2]}), f"{base}/a.parquet", filesystem=system)
    store = ParquetStore(ParquetSettings(path=path))
    assert await store.fetch("a", [1]) == {1: Point(1, {}, {"n": 2})}
    await store.ensure(CollectionSchema(name="b", vectors=None, ids=IdKinds.UINT64))
    await store.apply(WriteBatch("b", (Upsert(Point(1, {"": floats(1)}, {})),)))
    part = f"{base}/b/part-00000000.parquet"
    table = pq.read_table(part, filesystem=system)
    pq.write_table(table, part, filesystem=system, compression="none")
    other = ParquetStore(ParquetSettings(path=path))
    with pytest.raises(Refused, match="SHA-256"):
        await other.fetch("b", [1])
    for each in (store, other):
        await each.close()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("AWS Error NETWORK_CONNECTION during HeadObject operation", "store-unavailable"),
        ("AWS Error ACCESS_DENIED during HeadObject operation", "permission-denied"),
    ],
)
async def test_an_object_store_that_does_not_answer_is_told_from_one_that_says_no(
    monkeypatch: pytest.MonkeyPatch, words: str, code: str
) -> None:
    def refusing(url: str) -> Any:
        raise OSError(words)

    monkeypatch.setattr("replicator.connectors.parquet.places._file_system", refusing)
    store = ParquetStore(ParquetSettings(path="s3://bucket/folder"))
    assert store.late_write_bound_s > 0
    [finding] = await store.check()
    assert (finding.severity, finding.code) == (Severity.BLOCKS, code)
    with pytest.raises(ReplicatorError) as caught:
        await store.describe("a")
    assert caught.value.code == code
    await store.close()


@pytest.mark.parametrize("path", ["nowhere://bucket", "s3://bucket/a?regoin=x"])
async def test_a_url_that_nobody_understands_is_refused(path: str) -> None:
    store = ParquetStore(ParquetSettings(path=path))
    with pytest.raises(Refused, match=r"^path: ") as caught:
        await store.describe("a")
    assert caught.value.code == "config-invalid"
    await store.close()


async def test_fsspec_opens_what_pyarrow_does_not_know() -> None:
    store = ParquetStore(ParquetSettings(path=f"memory://{uuid.uuid4().hex}"))
    await store.ensure(CollectionSchema(name="a", vectors=None, ids=IdKinds.UINT64))
    await store.apply(WriteBatch("a", (Upsert(Point(1, {"": floats(1)}, {})),)))
    assert await store.fetch("a", [1]) == {1: Point(1, {"": floats(1)}, {})}
    await store.finish_bulk("a")
    await store.wipe("a")
    assert await store.count("a") == 0
    await store.close()
