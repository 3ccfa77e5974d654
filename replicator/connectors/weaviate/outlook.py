"""What stands in the way, of reading and of writing, as the server tells before it is asked to
do either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from replicator.connectors.weaviate.classes import Class
from replicator.connectors.weaviate.collection import Collections
from replicator.connectors.weaviate.kind import WeaviateOptions
from replicator.connectors.weaviate.rest import Rest
from replicator.connectors.weaviate.tenants import Tenants
from replicator.errors import ReplicatorError
from replicator.model.finding import Severity

Told = tuple[Severity, str, str]

_SINCE = (1, 30)
"""What a class may be made of (vectors of several rows) is as old as this."""

_SHOWN = 10


async def check(
    rest: Rest,
    collections: Collections,
    tenants: Tenants,
    chosen: Mapping[str, WeaviateOptions],
) -> list[Told]:
    """As `SelfCheck.check`, of the classes too whose options are known."""
    told: list[Told] = []
    try:
        version = await rest.version()
        told += _of_version(version)
        await rest.names()
        for name, options in chosen.items():
            kept = await collections.find(name)
            if kept is None:
                continue
            told += _of_class(kept)
            if kept.tenants and (inactive := await tenants.inactive(name)):
                told.append(_of_tenants(name, inactive, options))
    except ReplicatorError as exc:
        return [(Severity.BLOCKS, exc.code, exc.message)]
    return told


def _of_version(version: str) -> Iterator[Told]:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < _SINCE:
        message = f"Weaviate 1.30 or newer is needed, and this is {version}"
        yield Severity.WARNS, "unsupported", message


def _of_class(kept: Class) -> Iterator[Told]:
    if kept.left:
        message = (
            f"of {kept.name} the properties {', '.join(kept.left)} stay behind: references, and"
            " what the server computes, are no fields of a point; write references anew once"
            " what they lead to is at the target"
        )
        yield Severity.WARNS, "unsupported", message
    lifetime: dict[str, Any] = kept.document.get("objectTtlConfig") or {}
    if lifetime.get("enabled"):
        message = (
            f"objects of {kept.name} expire ({lifetime.get('deleteOn')},"
            f" {lifetime.get('defaultTtl')} s): at the target the times of creation and change"
            " begin anew, and what expires emits no event, so that verification finds it"
        )
        yield Severity.WARNS, "unsupported", message


def _of_tenants(name: str, inactive: Sequence[str], options: WeaviateOptions) -> Told:
    shown = ", ".join(inactive[:_SHOWN]) + (", …" if len(inactive) > _SHOWN else "")
    listed = f"of {name} {len(inactive)} tenants are not active ({shown})"
    if options.activate:
        return (
            Severity.INFORMS,
            "unsupported",
            f"{listed}: each is activated for as long as it is read",
        )
    return (
        Severity.WARNS,
        "unsupported",
        f"{listed}, and a copy that comes to one of them is refused: activate them, leave them"
        " out by `scopes`, or set source_options.activate = true",
    )


async def check_writing(
    rest: Rest, collections: Collections, names: Sequence[str]
) -> list[Told]:
    """As `WriteCheck.check_writing`."""
    told: list[Told] = []
    try:
        for name in names:
            kept = await collections.find(name)
            if kept is None:
                continue
            told += _of_vectorizers(kept)
            if kept.tenants:
                continue  # a shard each, and there may be very many
            closed = [
                shard
                for shard, status in (await rest.shards(name)).items()
                if status == "READONLY"
            ]
            if closed:
                message = (
                    f"the shards {', '.join(closed)} of {name} are READONLY, as they become"
                    " where a disk is nearly full: make room, and set them to READY"
                )
                told.append((Severity.BLOCKS, "store-refused", message))
    except ReplicatorError as exc:
        told.append((Severity.WARNS, exc.code, exc.message))
    return told


def _of_vectorizers(kept: Class) -> Iterator[Told]:
    for name, vector in kept.vectors.items():
        made_by = vector.document.get("vectorizer") or "none"
        word = next(iter(made_by)) if isinstance(made_by, dict) else str(made_by)
        if word != "none":
            message = (
                f"of {kept.name} the vector {name!r} is made by {word} where a point comes"
                " without it: such points would have one that nobody wrote"
            )
            yield Severity.WARNS, "unsupported", message
