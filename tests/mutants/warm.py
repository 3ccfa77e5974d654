"""
A warm process: it has imported what is slow to import, and forks a child for each run of
pytest. Run as a file, in a scratch copy: it imports nothing of the tree itself, so that each
child meets the tree as it is then.

A line of JSON asks (`arguments`, `within_s`, `out`), a line with the exit code answers; a
negative one names the signal, and SIGALRM that the time was over.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

_SLOW = (
    *("pytest", "hypothesis", "hypothesis.strategies", "numpy", "msgspec", "structlog"),
    *("aiohttp", "aiohttp.web", "aiokafka", "aiosqlite", "uvloop", "prometheus_client"),
    *("qdrant_client", "grpc", "click", "rich.console"),
)


def main() -> None:
    """Serve until the input ends."""
    for name in _SLOW:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run(request)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def run(request: dict[str, Any]) -> None:
    """One run of pytest, in a child that ends with it."""
    import pytest

    signal.alarm(max(1, int(request["within_s"])))
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    code = 3
    try:
        code = int(pytest.main(request["arguments"]))
    except BaseException:  # noqa: BLE001 - whatever it is, the child ends here, and says so
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    main()
