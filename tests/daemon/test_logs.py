from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator

import msgspec
import pytest
import structlog

from replicator.daemon import logs
from replicator.errors import Refused
from replicator.settings.settings import LogSettings
from replicator.settings.units import Secret


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield io.StringIO()
    logging.captureWarnings(False)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


def test_secrets_and_bytes_never_show_however_deep(stream: io.StringIO) -> None:
    for form in ("json", "console"):
        logs.configure(LogSettings(format=form), stream)
        structlog.get_logger().info(
            "connected",
            api_key=Secret("hunter2"),
            settings={"inner": [Secret("hunter2"), {"token": Secret("hunter2")}]},
            vector=b"\x00\x01hunter2",
        )
    text = stream.getvalue()
    assert text.count("connected") == 2
    assert "hunter2" not in text
    assert "<9 bytes>" in text


def test_libraries_speak_in_the_same_form_from_warnings_up(stream: io.StringIO) -> None:
    logs.configure(LogSettings(format="json", level="debug"), stream)
    logging.getLogger("grpc").debug("record b'...'")
    logging.getLogger("grpc").warning("server %s is away", 7)
    # Several lines a second while a broker is away; the status says it once.
    logging.getLogger("aiokafka").error("broker %s is away", 7)
    (line,) = lines(stream)
    assert line["message"] == "server 7 is away"
    assert line["logger"] == "grpc"
    assert line["level"] == "warning"


def test_warnings_of_python_are_log_lines_too(stream: io.StringIO) -> None:
    logs.configure(LogSettings(format="json"), stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", stacklevel=1)
    (line,) = lines(stream)
    assert "old ways" in str(line["message"])


def test_below_the_level_nothing_is_said(stream: io.StringIO) -> None:
    logs.configure(LogSettings(format="json", level="warning"), stream)
    structlog.get_logger().info("status")
    assert stream.getvalue() == ""


def test_an_exception_is_one_line_of_json(stream: io.StringIO) -> None:
    logs.configure(LogSettings(format="json"), stream)
    try:
        raise KeyError("gone")
    except KeyError:
        structlog.get_logger().exception("request failed")
    (line,) = lines(stream)
    assert "KeyError" in str(line["exception"])


def test_auto_is_json_where_nobody_looks(stream: io.StringIO) -> None:
    logs.configure(LogSettings(), stream)
    structlog.get_logger().info("daemon started")
    assert lines(stream)[0]["message"] == "daemon started"


@pytest.mark.parametrize("settings", [LogSettings(level="loud"), LogSettings(format="xml")])
def test_unknown_words_are_refused(settings: LogSettings) -> None:
    with pytest.raises(Refused, match=r"log\.(level|format)"):
        logs.configure(settings)
