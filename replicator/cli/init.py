"""`replicator init`: a commented configuration to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from replicator.errors import Refused
from replicator.kinds import kinds
from replicator.settings.patterns import OWN_NAME, Pattern, read_name

_FEEDS = {
    "kafka": """\
kind = "kafka"
bootstrap_servers = "localhost:9092"
topic = "{name}.changes"
partitioner = "murmur2"                         # Java and aiokafka; crc32 for librdkafka
settle = "60s"                                  # ≥ source visibility delay + change to event
""",
    "changelog": """\
kind = "changelog"
path = "var/{name}-changes.db"                  # the application appends to it
settle = "5s"                                   # ≥ source visibility delay + change to event
""",
    "none": """\
kind = "none"                                   # a plain copy: nobody may write the source
""",
}

_DELIVERY = {
    "kafka": "120s",
    "changelog": "10s",
}
"""How long after its fence a producer may still deliver: a Kafka client retries for its
delivery.timeout.ms, two minutes unless set; a writer of SQLite waits ten seconds at most."""

_COLLECTION = """\
[[collections]]
source = "{source}"                             # or a pattern: "docs-*"; "*" takes them all
target = "{target}"
#[collections.transform]                        # keep, drop, rename, cast, filter, vectors…
#rename = {{ old_name = "new_name" }}
"""

_WHOLE = """\
# A migration for vector-replicator. Every setting stands in config/reference.toml; next:
#   replicator check && replicator plan && replicator run

name = "{name}"                                 # names the migration, its state, its metrics

[source]
{source}
[target]
{target}
{collections}
[feed]
{feed}
[state]
path = "var/{name}.db"

[http]
listen = "127.0.0.1:8080"
token = "${{REPLICATOR_TOKEN:-}}"               # needed as soon as `listen` is not loopback
{cutover}"""

_CUTOVER = """\

[cutover]
fence = {{ kind = "manual" }}                   # manual: a person is asked; or http
switch = {{ kind = "manual" }}                  # manual, http, or a store's aliases
timeout = "5m"                                  # the whole attempt; then the fence opens again
delivery_timeout = "{delivery}"                        # longest a fenced producer may retry
"""


@click.command()
@click.option("--name", default="articles", show_default=True, help="Names the migration.")
@click.option(
    "--source", type=click.Choice(list(kinds())), default=next(iter(kinds())), show_default=True
)
@click.option(
    "--target", type=click.Choice(list(kinds())), default=next(iter(kinds())), show_default=True
)
@click.option(
    "--feed", type=click.Choice(sorted(_FEEDS)), default="changelog", show_default=True
)
@click.option(
    "--collection",
    "collections",
    metavar="SOURCE[=TARGET]",
    multiple=True,
    help="A collection and its name at the target; or a pattern, `*` for all. Repeat for"
    " several.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("config/replicator.toml"),
    show_default=True,
)
def init(
    *,
    name: str,
    source: str,
    target: str,
    feed: str,
    collections: tuple[str, ...],
    output: Path,
) -> None:
    """Write a commented configuration. Overwrites nothing."""
    text = configuration(name, source, target, feed, collections or (name,))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise Refused("config-exists", f"{output} exists already") from exc
    except OSError as exc:
        raise Refused("config-invalid", f"{output}: {exc.strerror}") from exc
    click.echo(f"wrote {output}; edit it, then: replicator check --config {output}")


def configuration(
    name: str, source: str, target: str, feed: str, collections: tuple[str, ...]
) -> str:
    """The text of a configuration, which loads as it is."""
    pairs = [pair.partition("=")[::2] for pair in collections]
    return _WHOLE.format(
        name=name,
        source=kinds()[source].example.format(side="SOURCE", port=6334, folder="source"),
        target=kinds()[target].example.format(side="TARGET", port=6335, folder="target"),
        collections="\n".join(
            _COLLECTION.format(source=from_, target=to or _name_at_target(from_))
            for from_, to in pairs
        ),
        feed=_FEEDS[feed].format(name=name),
        cutover=_CUTOVER.format(delivery=_DELIVERY[feed]) if feed != "none" else "",
    )


def _name_at_target(source: str) -> str:
    """The same; of what a pattern takes there is no other."""
    try:
        name = read_name(source)
    except ValueError as exc:
        raise Refused("config-invalid", f"--collection {source}: it {exc}") from exc
    return OWN_NAME if isinstance(name, Pattern) else name
