"""Both collections on one server; the application reads and writes an alias."""

from __future__ import annotations

from uuid import uuid4

import pytest
from qdrant_client import models

from tests.endtoend.model import Mapping, read
from tests.endtoend.rig import Rig, Topic

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("fence", ["http", "manual"])
async def test_the_alias_leads_to_the_store_in_use(
    rig: Rig, stores: tuple[str, str], topic: Topic, fence: str
) -> None:
    server = stores[0]
    tag = uuid4().hex[:10]
    collections = rig.collections(Mapping(), Mapping())
    app = await rig.application((server, server), topic.sink, collections, records=50)
    app.epoch = None  # an alias has no place for it
    aliases = [f"alias-{number}-{tag}" for number in range(2)]
    await app.source.update_collection_aliases(
        [
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(
                    collection_name=collection.source, alias_name=alias
                )
            )
            for alias, collection in zip(aliases, collections, strict=True)
        ]
    )

    async def ends() -> list[str]:
        known = (await app.source.get_aliases()).aliases
        found = {each.alias_name: each.collection_name for each in known}
        return [found[alias] for alias in aliases]

    cutover = await rig.served(app)
    daemon = rig.daemon(
        (server, server),
        collections,
        topic.feed(),
        cutover={
            "fence": cutover["fence"] if fence == "http" else {"kind": "manual"},
            "switch": {"kind": "qdrant-alias", "aliases": aliases},
        },
    )
    await daemon.start()
    await daemon.phase("STREAMING")
    await app.upsert(collections[0], 7)
    await daemon.did("verify", level="full")
    assert await ends() == [collection.source for collection in collections]

    await daemon.did("cutover", yes=True)
    assert await ends() == [collection.target for collection in collections]
    records = await read(app.source, aliases[0])
    assert records[7].payload == collections[0].records[7].payload
    app.active = "target"
    await app.upsert(collections[0], 8)
    await app.delete(collections[1], 9)
    await daemon.applied(app.sink.ends)

    await daemon.did("revert", yes=True)
    assert await ends() == [collection.source for collection in collections]
    assert (await read(app.source, aliases[0]))[8].payload == collections[0].records[8].payload
    assert 9 not in await read(app.source, aliases[1])
    assert await app.differences("source") == []
    assert await app.differences("target") == []
