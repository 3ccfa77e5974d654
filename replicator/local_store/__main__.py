"""`python -m replicator.local_store PATH LISTEN`: run until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from replicator.errors import ReplicatorError, exit_code
from replicator.local_store.server import serve


def announce(address: str) -> None:
    """Print the bound address, alone on one line, for the program that started this one."""
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Serve PATH at LISTEN (`host:port`; port 0 takes a free one)."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m replicator.local_store PATH LISTEN\n")
        return 2
    try:
        asyncio.run(serve(arguments[0], arguments[1], announce))
    except ReplicatorError as exc:
        sys.stderr.write(f"{exc.code}: {exc.message}\n{exc.hint}\n")
        return exit_code(exc)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
