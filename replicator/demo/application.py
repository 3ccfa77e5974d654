"""
The application of the demonstration, a process of its own: it loads a corpus into the source
store and then goes on writing and searching through the whole migration, without knowing
anything of the replicator but its event contract and the two HTTP endpoints of a cutover.

`python -m replicator.demo.application SETTINGS.json` prints its address as the one line of its
standard output when it is at work. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec
from aiohttp import web

from replicator import clock
from replicator.demo.corpus import documents
from replicator.demo.embedder import embed
from replicator.demo.emitter import ChangelogSink, EventSink, KafkaSink
from replicator.demo.gate import Gate, StoreName
from replicator.demo.oplog import Image, Operation, OperationLog
from replicator.demo.schema import source_payload
from replicator.demo.stores import DocumentStore, SourceStore, TargetStore, connect
from replicator.demo.writer import Tally, Workplace, Writer, search_on

_LOAD_ROWS = 256


class ApplicationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the application is told at its start. Addresses are `host:port`."""

    source: str
    target: str
    operations: str
    """Path of the operation log."""
    changelog: str = ""
    """Path of the change log; empty when events go to Kafka."""
    bootstrap_servers: str = ""
    topic: str = ""
    points: int
    seed: int
    writers: int = 4
    writes_per_s: float = 100.0
    """Over all writers, about."""
    searches_per_s: float = 20.0


class Stats(msgspec.Struct, kw_only=True):
    """The answer of `GET /stats`."""

    active: str
    epoch: int
    fenced: bool
    fence_closings: int
    fence_opened_by_deadline: int
    operations: int
    tally: Tally


class FenceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /fence`."""

    action: str
    deadline_s: float = 60.0
    attempt: str = ""
    """Which cutover asks."""


class SwitchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /switch`."""

    to: StoreName
    epoch: int


class Application:
    """The HTTP endpoints over the gate and the tally."""

    def __init__(self, gate: Gate, tally: Tally, log: OperationLog) -> None:
        self._gate = gate
        self._tally = tally
        self._log = log

    def endpoints(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/fence", self._fence),
                web.get("/switch", self._switched),
                web.post("/switch", self._switch),
                web.get("/stats", self._stats),
                web.post("/rest", self._rest),
                web.post("/work", self._work),
            ]
        )
        return app

    async def _fence(self, request: web.Request) -> web.Response:
        wish = msgspec.json.decode(await request.read(), type=FenceRequest)
        closed_s = self._gate.closed_s
        if wish.action == "open":
            if not self._gate.open_fence(wish.attempt):
                return web.json_response({"error": "another attempt holds it"}, status=409)
        else:
            try:
                closed = await self._gate.close_fence(wish.deadline_s, wish.attempt)
            except TimeoutError:
                return web.json_response({"error": "writes are still under way"}, status=503)
            if not closed:
                return web.json_response({"error": "that attempt is over"}, status=409)
            closed_s = self._gate.closed_s
        return web.json_response(
            {
                "holder": "the demonstration's application",
                "closed_s": closed_s,
                "held_s": self._gate.held_s,
            }
        )

    async def _switched(self, request: web.Request) -> web.Response:
        return self._route()

    async def _switch(self, request: web.Request) -> web.Response:
        wish = msgspec.json.decode(await request.read(), type=SwitchRequest)
        if not await self._gate.switch(wish.to, wish.epoch):
            return web.json_response({"error": "an older epoch than the one known"}, status=409)
        return self._route()

    def _route(self) -> web.Response:
        route = self._gate.route
        return web.json_response({"active": route.active, "epoch": route.epoch})

    async def _stats(self, request: web.Request) -> web.Response:
        stats = Stats(
            active=self._gate.route.active,
            epoch=self._gate.route.epoch,
            fenced=self._gate.fenced,
            fence_closings=self._gate.closings,
            fence_opened_by_deadline=self._gate.opened_by_deadline,
            operations=self._log.length,
            tally=self._tally,
        )
        return web.Response(body=msgspec.json.encode(stats), content_type="application/json")

    async def _rest(self, request: web.Request) -> web.Response:
        await self._gate.rest()
        self._log.flush()
        return await self._stats(request)

    async def _work(self, request: web.Request) -> web.Response:
        self._gate.work()
        return await self._stats(request)


async def serve(settings: ApplicationSettings) -> None:
    """Load the corpus, serve, and work until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    corpus = documents(settings.points)
    source = SourceStore(connect(settings.source))
    target = TargetStore(connect(settings.target))
    log = OperationLog(Path(settings.operations))
    sink = await _sink(settings)
    gate, tally = Gate(), Tally()
    stores: dict[StoreName, DocumentStore] = {"source": source, "target": target}
    place = Workplace(gate, stores, sink, log, tally, corpus)

    images = {
        number: Image(embed(document.text).tobytes(), source_payload(document))
        for number, document in enumerate(corpus, 1)
    }
    await _load(source, images, log)

    runner = web.AppRunner(Application(gate, tally, log).endpoints(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                _writer(place, images, number, settings).run(
                    settings.writes_per_s / settings.writers
                ),
                name=f"writer-{number}",
            )
            for number in range(settings.writers)
        ]
        searching = search_on(place, seed=settings.seed, per_s=settings.searches_per_s)
        tasks.append(group.create_task(searching, name="searcher"))
        host, port = runner.addresses[0][:2]
        print(f"http://{host}:{port}", flush=True)  # noqa: T201 - the promised line
        await stop.wait()
        await gate.rest()
        for task in tasks:
            task.cancel()
    await runner.cleanup()
    await sink.close()
    log.close()


def _writer(
    place: Workplace, images: dict[int, Image], number: int, settings: ApplicationSettings
) -> Writer:
    writers = settings.writers
    share = {key: image for key, image in images.items() if key % writers == number}
    return Writer(place, share, number=number, writers=writers, seed=settings.seed)


async def _sink(settings: ApplicationSettings) -> EventSink:
    if settings.changelog:
        return await ChangelogSink(Path(settings.changelog)).open()
    return await KafkaSink(settings.bootstrap_servers, settings.topic).open()


async def _load(source: SourceStore, images: dict[int, Image], log: OperationLog) -> None:
    """The corpus of before the migration: in the store and the oracle, but in no event."""
    await source.create()
    keys = list(images)
    for first in range(0, len(keys), _LOAD_ROWS):
        rows = {key: images[key] for key in keys[first : first + _LOAD_ROWS]}
        await source.load(rows)
        for key, image in rows.items():
            log.append(
                Operation(
                    op="upsert",
                    id=key,
                    at_ms=round(clock.wall() * 1000),
                    store="source",
                    vector=image.vector,
                    payload=image.payload,
                )
            )
    log.flush()


if __name__ == "__main__":
    given = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ApplicationSettings)
    asyncio.run(serve(given))
