"""The replicator's configuration for the demonstration, as a file that people can read."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is. Addresses are `host:port`."""

    directory: Path
    source: str
    target: str
    application: str
    """The application's URL."""
    listen: str
    changelog: Path | None
    """None when events travel through Kafka."""
    bootstrap_servers: str = ""
    topic: str = ""


def daemon_config(places: Places, *, rows_per_s: float) -> str:
    """
    The TOML text. The times are short because both stores are on this machine: a write is
    visible when it returns, and a lost reply is known to be lost within a second.
    """
    if places.changelog is not None:
        feed = f'kind = "changelog"\npath = "{places.changelog}"'
    else:
        feed = (
            f'kind = "kafka"\nbootstrap_servers = "{places.bootstrap_servers}"\n'
            f'topic = "{places.topic}"'
        )
    return f"""\
name = "demo"

[source]
kind = "qdrant"
url = "http://{places.source}"
late_write_bound = "1s"

[target]
kind = "qdrant"
url = "http://{places.target}"
late_write_bound = "1s"

[[collections]]
source = "docs"
target = "docs_v2"

[collections.transform]
filter = {{ must = [{{ key = "visibility", match = {{ value = "public" }} }}] }}
cast = {{ size = "int" }}
rename = {{ name = "title" }}
constant = {{ schema = 2 }}
vectors = {{ "" = "text" }}

[feed]
{feed}
settle = "1s"

[state]
path = "{places.directory / "state.db"}"

[http]
listen = "{places.listen}"

[backfill]
chunks = 8
page_rows = 128
rate_max = {rows_per_s}

[cutover]
fence = {{ kind = "http", url = "{places.application}/fence" }}
switch = {{ kind = "http", url = "{places.application}/switch" }}
timeout = "30s"
delivery_timeout = "1s"
# The filter and the cast leave things behind; this application goes on emitting whole images.
way_back_lossy = true

[log]
format = "json"
interval = "5s"
"""
