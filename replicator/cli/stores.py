"""`replicator stores`: the kinds of stores there are, and what each can do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from replicator.cli import options, screen

if TYPE_CHECKING:
    from replicator.model.traits import IdRules, Limits, PayloadRules, Traits, VectorRules
    from replicator.ports.kind import StoreKind


@click.command()
@options.as_json
def stores(as_json: bool) -> None:
    """
    Show which kinds of stores there are, and what each can do.

    Those that other packages bring are among them.
    """
    from replicator.kinds import kinds

    found = kinds().values()
    if as_json:
        screen.print_json([_document(kind) for kind in found])
        return
    out = screen.console()
    for number, kind in enumerate(found):
        if number:
            out.print()
        out.print(f"{kind.name} (of {kind.package}): {summary(kind)}", soft_wrap=True)
        out.print(screen.table(("", ""), sentences(kind.traits)))


def _document(kind: StoreKind) -> dict[str, Any]:
    import msgspec

    told = msgspec.to_builtins(kind.traits)
    told["ids"]["kinds"] = [str(each.name).lower() for each in kind.traits.ids.kinds]
    told["vectors"]["kinds"].sort()
    return {"kind": kind.name, "package": kind.package, "traits": told}


def summary(kind: StoreKind) -> str:
    """What its settings say of themselves, in one line."""
    paragraph = inspect.cleandoc(kind.settings.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def sentences(traits: Traits) -> Iterator[tuple[str, str]]:
    """What a store is, in words: a subject, and what is true of it."""
    yield "ids", _ids(traits.ids)
    yield "vectors", _vectors(traits.vectors)
    yield "vectors come back", _fidelity(traits.vectors)
    yield "payload", _payload(traits.payload)
    yield "a request", _request(traits.limits)
    yield "a patch", "one request" if traits.patches else "read, folded and written"
    yield "a search", _search(traits)
    yield "a collection", "; ".join(_collection(traits))
    yield "while it is copied", "others may write" if traits.live else "nobody may write"
    yield "as a target", "of streams and copies" if traits.follows else "of plain copies alone"


def _ids(rules: IdRules) -> str:
    from replicator.model.schema import IdKinds

    told = rules.limits.in_words(rules.kinds)
    if rules.kinds & IdKinds.STRING:
        told += f" up to {rules.limits.text_bytes_max} bytes"
        if rules.limits.alphabet is not None:
            told += f" of [{rules.limits.alphabet}]"
    return told if rules.mixed else f"{told}; one kind a collection"


def _vectors(rules: VectorRules) -> str:
    told = [", ".join(sorted(kind.value for kind in rules.kinds))]
    if rules.unnamed:
        told.append("one without a name")
    if rules.several:
        some = "some or all of them" if rules.partial else "all of them"
        told.append(f"several by name, {some} in a point")
    if rules.hybrid:
        told.append("a sparse one beside the dense one, by an option's name")
    told.append("a point may have none" if rules.none else "a point has one at least")
    return "; ".join(told)


def _fidelity(rules: VectorRules) -> str:
    from replicator.model.schema import Precision

    told = ["with length one under cosine" if rules.normalises else "as they were written"]
    if rules.rounds:
        told.append("rounded under cosine")
    if not rules.zero:
        told.append("not of zeros alone")
    if not rules.negative:
        told.append("sparse ones not below zero")
    if not rules.checks_dimensions:
        told.append("of any dimension")
    if rules.dimensions_max is not None:
        told.append(f"up to {rules.dimensions_max:,} dimensions")
    if rules.sparse_dimensions_max < 1 << 32:
        told.append(f"sparse ones up to {rules.sparse_dimensions_max:,}")
    kept = [each.value for each in Precision if each in rules.precisions]
    told.append(f"in {', '.join(kept)}")
    return "; ".join(told)


def _payload(rules: PayloadRules) -> str:
    from replicator.model.schema import power
    from replicator.model.traits import Lists

    lists = {
        Lists.ANY: "lists",
        Lists.ALIKE: "lists of texts, numbers or truth values, of one type and not empty",
        Lists.TEXTS: "lists of texts",
        Lists.NONE: "no lists",
    }
    told = ["maps within it" if rules.nested else "no maps within it", lists[rules.lists]]
    told.append("null is absence" if rules.null_is_absence else "null is a value")
    if rules.integer_max is not None:
        told.append(f"integers up to {power(rules.integer_max)}")
    if not rules.integers_apart:
        told.append("integers are floats")
    if not rules.nul:
        told.append("no U+0000")
    if rules.keys is not None:
        told.append(f"keys like {rules.keys}")
    return "; ".join(told)


def _request(limits: Limits) -> str:
    told = []
    if limits.records_max is not None:
        told.append(f"up to {limits.records_max:,} records")
    if limits.bytes_max is not None:
        told.append(f"up to {limits.bytes_max:,} bytes")
    return ", ".join(told) or "no known limit"


def _search(traits: Traits) -> str:
    filters = "takes a filter" if traits.filters else "takes no filter"
    return f"{filters}; {'exact when asked' if traits.exact_search else 'by index only'}"


def _collection(traits: Traits) -> Iterator[str]:
    yield "says which vectors it has" if traits.vectors.schema else "needs no schema"
    yield "keeps our mark" if traits.marks else "keeps no mark"
    if traits.scopes:
        yield "can have tenants, partitions or shard keys"
    if traits.aliases:
        yield "has aliases"
    if traits.indexes:
        yield "has payload indexes"
    if not traits.counts:
        yield "is not counted"
    if traits.creates_on_write:
        yield "comes into being by a write"
