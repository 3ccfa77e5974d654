from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from replicator.demo.application import Application
from replicator.demo.gate import Gate
from replicator.demo.oplog import OperationLog
from replicator.demo.writer import Tally
from replicator.settings.cutover import HttpSettings
from replicator.testing.fence_conformance import Admits, FenceConformance
from replicator.traffic.fences import HttpFence, ManualFence
from replicator.traffic.person import Person
from tests.migration.rig import Fence


class TestManualFence(FenceConformance):
    @pytest.fixture
    def fence(self) -> ManualFence:
        return ManualFence(Person(assume_yes=True))

    @pytest.fixture
    def admits(self) -> Admits:
        return None


class TestHttpFence(FenceConformance):
    """With the packaged example at the other end."""

    @pytest.fixture
    def gate(self) -> Gate:
        return Gate()

    @pytest.fixture
    async def fence(self, gate: Gate, tmp_path: Path) -> AsyncIterator[HttpFence]:
        log = OperationLog(tmp_path / "operations")
        application = Application(gate, Tally(), log)
        server = TestServer(application.endpoints())
        await server.start_server()
        yield HttpFence(HttpSettings(url=str(server.make_url("/fence"))))
        await server.close()
        log.close()

    @pytest.fixture
    def admits(self, gate: Gate) -> Admits:
        return lambda: not gate.fenced


class TestTheRigsFence(FenceConformance):
    @pytest.fixture(params=[False, True])
    def fence(self, request: pytest.FixtureRequest) -> Fence:
        return Fence(rests_on_word=request.param)

    @pytest.fixture
    def admits(self, fence: Fence) -> Admits:
        return lambda: not fence.is_closed
