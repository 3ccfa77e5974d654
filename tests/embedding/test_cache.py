"""The file of vectors made already: it lasts, is shared by nobody, and says when it fails."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from replicator.embedding.cache import SqliteVectorCache
from replicator.errors import Unavailable


def vectors(count: int) -> dict[bytes, bytes]:
    return {n.to_bytes(32, "big"): bytes([n % 256]) * 16 for n in range(count)}


async def test_what_was_kept_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "var" / "m.db.embeddings"
    many = vectors(1300)
    async with aclosing(SqliteVectorCache(path)) as cache:
        assert await cache.get(many) == {}
        await cache.put(many)
    async with aclosing(SqliteVectorCache(path)) as cache:
        assert await cache.get([*many, b"another"]) == many


async def test_the_first_vector_of_a_text_stays(tmp_path: Path) -> None:
    async with aclosing(SqliteVectorCache(tmp_path / "m")) as cache:
        await cache.put({b"k": b"1111"})
        await cache.put({b"k": b"2222", b"l": b"3333"})
        assert await cache.get([b"k", b"l"]) == {b"k": b"1111", b"l": b"3333"}


async def test_many_ask_at_once_and_one_gives_up(tmp_path: Path) -> None:
    async with aclosing(SqliteVectorCache(tmp_path / "m")) as cache:
        puts = [asyncio.create_task(cache.put({key: v})) for key, v in vectors(20).items()]
        await asyncio.sleep(0)
        puts[3].cancel()
        await asyncio.wait(puts)
        kept = await cache.get(vectors(20))
        assert len(kept) >= 19
        await cache.put(vectors(20))
        assert await cache.get(vectors(20)) == vectors(20)


async def test_a_file_that_cannot_be_used_is_a_peer_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"no database, but bytes enough to look like something else" * 100)
    async with aclosing(SqliteVectorCache(path)) as cache:
        with pytest.raises(Unavailable, match="not a database") as caught:
            await cache.get([b"k"])
        assert caught.value.code == "embedding-cache"
        assert str(path) in caught.value.message
        path.unlink()
        await cache.put({b"k": b"1111"})
        assert await cache.get([b"k"]) == {b"k": b"1111"}
