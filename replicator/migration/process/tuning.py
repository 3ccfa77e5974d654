"""What can be changed while the migration runs: rate, concurrency and batch limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from replicator.errors import Refused
from replicator.settings.units import Duration, Size

if TYPE_CHECKING:
    from replicator.migration.process.engine import Engine

TUNABLE = (
    "backfill.rate_max",
    "stream.batch_bytes",
    "stream.batch_records",
    "stream.in_flight_max",
    "stream.linger",
)


def tune(engine: Engine, changes: dict[str, str]) -> dict[str, str]:
    """Apply all changes or none; returns every tunable with its value. Raises Refused."""
    settings, rate_max = engine.stream_settings, engine.pace.rate_max
    for name, text in changes.items():
        if name not in TUNABLE:
            raise Refused("bad-request", f"{name!r} is not tunable; {', '.join(TUNABLE)} are")
        try:
            value = _parse(name, text)
        except ValueError as error:
            raise Refused("bad-request", f"{name}: {error}") from error
        if name == "backfill.rate_max":
            rate_max = float(value)
        else:
            field = name.removeprefix("stream.")
            settings = msgspec.structs.replace(settings, **{field: value})
    engine.stream_settings = settings
    engine.pace.rate_max = rate_max
    if engine.stream is not None:
        engine.stream.tune(settings)
    for writer in engine.writers.values():
        writer.limit.maximum = settings.in_flight_max
    return {
        name: str(
            rate_max
            if name == "backfill.rate_max"
            else getattr(settings, name.removeprefix("stream."))
        )
        for name in TUNABLE
    }


def _parse(name: str, text: str) -> float | int:
    match name:
        case "backfill.rate_max":
            value: float | int = float(text)
        case "stream.batch_bytes":
            value = Size.parse(text)
        case "stream.linger":
            value = Duration.parse(text)
        case _:
            value = int(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number to work with")
    if value < 0 or (value == 0 and name not in ("backfill.rate_max", "stream.linger")):
        raise ValueError(f"{text} is too small")
    return value
