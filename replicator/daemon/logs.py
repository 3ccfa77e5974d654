"""
The daemon's log: one line an event on standard output, as JSON or for people.

Standard error is left to the last words of a command. Messages are constant phrases with
fields; what must never be shown (credentials, vectors, payload bytes) is taken out here once
more, should a field ever carry it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from replicator.errors import Refused
from replicator.settings.settings import LogSettings
from replicator.settings.units import Secret

_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("auto", "json", "console")


def validate(settings: LogSettings) -> None:
    """Raises Refused("config-invalid") for a level or a format that does not exist."""
    if settings.level not in _LEVELS:
        raise _unknown("level", settings.level, _LEVELS)
    if settings.format not in _FORMATS:
        raise _unknown("format", settings.format, _FORMATS)


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging. Raises Refused("config-invalid")."""
    validate(settings)
    stream = stream or sys.stdout
    people = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared = _shared()
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, *_render(people, stream)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_render(people, stream),
            ],
        )
    )
    # Libraries speak from warnings up, whatever our own level: their debug lines hold records.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    # The feed translates every failure and the status shows it; aiokafka's own lines come
    # several a second while a broker is away.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


def quiet() -> None:
    """For commands that are no daemon: warnings only, on standard error, for people."""
    configure(LogSettings(level="warning", format="console"), sys.stderr)


def conceal(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace secrets and bytes of every field, however deep."""
    return {name: _concealed(value) for name, value in event.items()}


def _concealed(value: object) -> object:
    match value:
        case Secret():
            return "***"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict():
            return {name: _concealed(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_concealed(inner) for inner in value]
        case _:
            return value


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        conceal,
    ]


def _render(people: bool, stream: TextIO) -> list[Processor]:
    if people:
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(),
    ]


def _unknown(name: str, value: str, known: tuple[str, ...]) -> Refused:
    return Refused(
        "config-invalid", f"log.{name}: expected one of {', '.join(known)}, not {value!r}"
    )
