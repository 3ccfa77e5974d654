"""`replicator local-store`: a small Qdrant-compatible server."""

from __future__ import annotations

import asyncio

import click

from replicator.extras import needed_for


@click.command("local-store")
@click.option(
    "--path",
    required=True,
    metavar="DIRECTORY",
    help="Where points are kept. Made when absent.",
)
@click.option(
    "--listen",
    default="127.0.0.1:6334",
    show_default=True,
    metavar="HOST:PORT",
    help="gRPC address; port 0 takes a free one. There is no authentication.",
)
def local_store(path: str, listen: str) -> None:
    """Serve Qdrant's gRPC from this machine.

    The embedded engine behind a small server, for demos, tests and laptops.

    Prints its address once it listens, and runs until SIGTERM or ^C.
    """
    with needed_for("the local store", "local-store"):
        from replicator.local_store.server import serve

    asyncio.run(serve(path, listen, click.echo))
