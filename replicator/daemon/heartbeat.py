"""The one periodic log line: where the migration stands."""

from __future__ import annotations

import asyncio

import structlog

from replicator.errors import Refused
from replicator.model.status import Status
from replicator.ports.control import Control

log = structlog.get_logger()


async def heartbeat(control: Control, interval_s: float) -> None:
    """Log the status every `interval_s` seconds until cancelled."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            status = await control.status()
        except Refused:
            continue  # it has none before it has read its state
        log.info("status", **fields(status))


def fields(status: Status) -> dict[str, object]:
    """What one line says; null is unknown."""
    return {
        "phase": status.phase.value,
        "direction": status.direction.value,
        "paused": status.paused,
        "ready": status.ready,
        "not_ready": [blocker.code for blocker in status.not_ready],
        "copied": status.backfill.copied,
        "percent": status.backfill.percent,
        "lag_records": status.lag.records,
        "lag_seconds": status.lag.seconds,
        "applied": status.stream.applied,
        "retries": status.stream.retries,
        "throttled": status.stream.throttled,
        "dead_letters": status.stream.dead_letters,
        "can_cutover": status.can_cutover,
    }
