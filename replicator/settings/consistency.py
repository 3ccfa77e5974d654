"""
What must hold between settings, beyond the type of each: every rule here would otherwise show
itself in the middle of a migration.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Sequence

from replicator.losses import LOSSES
from replicator.settings.convert import invalid
from replicator.settings.credentials import why_not_sent
from replicator.settings.cutover import (
    AliasSettings,
    HookSettings,
    HttpSettings,
    ManualSettings,
)
from replicator.settings.feeds import ChangelogSettings, KafkaSettings, TableSettings
from replicator.settings.options import options_of
from replicator.settings.patterns import OWN_NAME, Pattern
from replicator.settings.rules import why_below, why_no_url
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings, store_address
from replicator.settings.transform import CollectionSettings
from replicator.settings.transform_rules import check_transform
from replicator.settings.units import Secret
from replicator.settings.variants import kind_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.%a-z]+\]|[^\s:\[\]/]+):(\d{1,5})")


_BUDGET_MIN = 1 << 20
"""Less makes pages of a few ordinary points."""


def check_consistency(settings: Settings) -> None:
    """Raises Refused("config-invalid" or "transform-invalid") for the first rule broken."""
    if not _NAME.fullmatch(settings.name):
        raise invalid(
            "name", "is letters, digits, `.`, `_` and `-`, at most 64, and begins with neither"
        )
    _check_store("source", settings.source)
    _check_store("target", settings.target)
    _check_collections(settings)
    _check_feed(settings)
    _check_http(settings)
    _check_limits(settings)
    _check_cutover(settings)
    for number, collection in enumerate(settings.collections):
        check_transform(collection.transform, f"collections[{number}].transform")
        required = collection.vectors_required or []
        for place, name in enumerate(required):
            if name in required[:place]:
                path = f"collections[{number}].vectors_required[{place}]"
                raise invalid(path, f"names {name!r} twice")
        _check_scopes(f"collections[{number}].scopes", collection.scopes)
        _check_accepted(f"collections[{number}].accept", collection.accept)


def _check_store(path: str, store: StoreSettings) -> None:
    for key, problem in store.problems():
        raise invalid(f"{path}.{key}", problem)


def _check_collections(settings: Settings) -> None:
    if not settings.collections:
        raise invalid("collections", "lists no collection; add [[collections]]")
    _check_patterns(settings)
    for role in ("source", "target"):
        seen: dict[str, int] = {}
        for number, collection in enumerate(settings.collections):
            path = f"collections[{number}].{role}"
            name = getattr(collection, role)
            _check_options(f"{path}_options", settings, collection, role)
            if isinstance(collection.source, Pattern):
                continue
            if name in seen and role == "source":
                raise invalid(path, f"{name!r} stands in collections[{seen[name]}] already")
            seen[name] = number
            why = getattr(settings, role).unfit(name)
            if why is not None:
                raise invalid(path, f"{name!r} {why}" if name else why)
    _check_shared_targets(settings.collections)
    if store_address(settings.source) == store_address(settings.target):
        sources = {collection.source for collection in settings.collections}
        for number, collection in enumerate(settings.collections):
            if collection.target in sources:
                raise invalid(
                    f"collections[{number}].target",
                    f"{collection.target!r} is read from the same store as a source",
                )


def _check_shared_targets(collections: Sequence[CollectionSettings]) -> None:
    """Equal ids of two sources would be one point, and a delete of the one take the other."""
    first: dict[str, int] = {}
    for number, collection in enumerate(collections):
        if isinstance(collection.source, Pattern):
            continue  # what it takes has a target of its own
        other = first.setdefault(collection.target, number)
        if other == number:
            continue
        for place in (other, number):
            if collections[place].ids != "mapped":
                raise invalid(
                    f"collections[{number}].target",
                    f"{collection.target!r} is the target of collections[{other}] already; one "
                    f'for both needs `ids = "mapped"` in each, so that their equal ids stay '
                    f"two points, and collections[{place}] does not say so",
                )
        if collection.target_options != collections[other].target_options:
            raise invalid(
                f"collections[{number}].target_options",
                f"are not those of collections[{other}], which has the same target",
            )


def _check_patterns(settings: Settings) -> None:
    """What a pattern takes has the same name at both stores."""
    seen: dict[str, int] = {}
    for number, collection in enumerate(settings.collections):
        pattern = collection.source
        if not isinstance(pattern, Pattern):
            continue
        path = f"collections[{number}].source"
        if collection.target != OWN_NAME:
            raise invalid(
                f"collections[{number}].target",
                "is for one collection, and `source` is a pattern: each that it takes keeps its"
                " name; leave `target` out",
            )
        if pattern in seen:
            twice = f"{str(pattern)!r} stands in collections[{seen[pattern]}] already"
            raise invalid(path, twice)
        seen[pattern] = number
        if store_address(settings.source) == store_address(settings.target):
            raise invalid(
                path,
                "is a pattern: what it takes keeps its name, and both stores are one",
            )


def _check_scopes(path: str, scopes: str | list[str] | None) -> None:
    if scopes == []:
        raise invalid(path, 'names no scope; `"*"` is all of them')
    if isinstance(scopes, list):
        for place, name in enumerate(scopes):
            _filled(f"{path}[{place}]", name)
            if name in scopes[:place]:
                raise invalid(f"{path}[{place}]", f"names {name!r} twice")


def _check_options(
    path: str, settings: Settings, collection: CollectionSettings, role: str
) -> None:
    """At a target, a kind without options may have settings, which the store judges."""
    given = getattr(collection, f"{role}_options")
    options = options_of(getattr(settings, role), given, path)
    if options is None and given and role == "source":
        raise invalid(path, "this kind of store has none")


def _check_accepted(path: str, codes: Sequence[str]) -> None:
    for number, code in enumerate(codes):
        if code not in LOSSES:
            near = difflib.get_close_matches(code, LOSSES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise invalid(f"{path}[{number}]", f"{code!r} is no code of a loss{hint}")


def _check_feed(settings: Settings) -> None:
    feed = settings.feed
    match feed:
        case KafkaSettings():
            if not _TOPIC.fullmatch(feed.topic):
                raise invalid("feed.topic", "is letters, digits, `.`, `_`, `-`, 1 to 249 long")
            for server in feed.bootstrap_servers.split(","):
                if not _is_address(server.strip(), 1):
                    raise invalid(
                        "feed.bootstrap_servers",
                        f"is a list of host:port with commas; {server.strip()!r} is not one",
                    )
            needs_user = feed.sasl_mechanism != "GSSAPI" and "SASL" in feed.security_protocol
            if needs_user and not feed.sasl_plain_username:
                raise invalid("feed.sasl_plain_username", f"{feed.sasl_mechanism} needs it")
            _at_least("feed.fetch_bytes_max", feed.fetch_bytes_max, 1)
            _at_least("feed.request_timeout", feed.request_timeout, 0.001)
            _at_least("feed.stuck_after", feed.stuck_after, 0.001)
        case ChangelogSettings():
            _filled("feed.path", feed.path)
            if feed.path == settings.state.path:
                raise invalid("feed.path", "is the state's own file; they must be two")
            _at_least("feed.poll_interval", feed.poll_interval, 0.001)
        case _:
            return
    _check_tables(settings, feed.decoder, feed.tables)
    _at_least("feed.event_bytes_max", feed.event_bytes_max, 1)
    if feed.event_bytes_max > settings.stream.buffer_bytes:
        raise invalid(
            "feed.event_bytes_max",
            "is above stream.buffer_bytes: the largest event could never be held",
        )


def _check_tables(settings: Settings, decoder: str, tables: Sequence[TableSettings]) -> None:
    if decoder == "replicator":
        if tables:
            raise invalid(
                "feed.tables", "is read by the decoders `debezium` and `airbyte` only"
            )
        return
    seen: list[str] = []
    _check_named(settings, decoder)
    listed = [collection.source for collection in settings.collections]
    for number, table in enumerate(tables):
        path = f"feed.tables[{number}]"
        if table.collection not in listed:
            near = difflib.get_close_matches(table.collection, listed, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise invalid(
                f"{path}.collection",
                f"{table.collection!r} is no source of [[collections]]{hint}",
            )
        if table.collection in seen:
            raise invalid(f"{path}.collection", f"{table.collection!r} stands there twice")
        seen.append(table.collection)
        _check_columns(table, path)
    for name in listed:
        if name not in seen:
            raise invalid("feed.tables", f"says nothing of the columns of {name!r}")
    for number, collection in enumerate(settings.collections):
        if collection.scopes is not None:
            raise invalid(
                f"collections[{number}].scopes", f"cannot be read by the decoder `{decoder}`"
            )


def _check_named(settings: Settings, decoder: str) -> None:
    for number, collection in enumerate(settings.collections):
        if isinstance(collection.source, Pattern):
            raise invalid(
                f"collections[{number}].source",
                f"is a pattern, and the decoder `{decoder}` must be told how each table is"
                " read: name them all, here and in feed.tables",
            )


def _check_columns(table: TableSettings, path: str) -> None:
    if not table.key:
        raise invalid(f"{path}.key", "names no column")
    if table.payload and (table.fields or table.json):
        key = "fields" if table.fields else "json"
        raise invalid(f"{path}.{key}", "and `payload` exclude each other")
    parts = {
        "key": table.key,
        "vectors": list(table.vectors),
        "payload": [table.payload] if table.payload else [],
        "fields": table.fields,
    }
    role: dict[str, str] = {}
    for part, columns in parts.items():
        for column in columns:
            if column in role:
                raise invalid(
                    f"{path}.{part}", f"has the column {column!r}, as `{role[column]}` has"
                )
            role[column] = part
    for column in table.json:
        if role.get(column, "fields") != "fields" or (table.fields and column not in role):
            raise invalid(f"{path}.json", f"{column!r} is no payload field")
    names = list(table.vectors.values())
    if len(set(names)) != len(names):
        raise invalid(f"{path}.vectors", "gives two columns one vector name")


def _check_http(settings: Settings) -> None:
    listen = settings.http.listen
    if not _is_address(listen, 0):
        raise invalid("http.listen", f"is host:port, such as 127.0.0.1:8080, not {listen!r}")
    _sendable("http.token", settings.http.token)
    if not _is_loopback(listen.rpartition(":")[0]) and not settings.http.token.reveal():
        raise invalid("http.token", f"must be set, as {listen} is not on loopback only")


def _check_limits(settings: Settings) -> None:
    positive = {
        "stream": ("batch_records", "batch_bytes", "in_flight_max", "buffer_records"),
        "backfill": ("readers", "chunks", "page_rows"),
        "verify": ("page_rows", "sample", "suspects_max", "search_limit"),
        "cutover": ("touched_keys_max", "touched_bytes_max"),
    }
    not_negative = {
        "stream": ("version_window",),
        "backfill": ("rate_max",),
        "verify": ("float_tolerance", "payload_tolerance", "rate_max", "queries", "recall_min"),
        "cutover": ("lag_records_max",),
    }
    times = {
        "stream": ("commit_interval", "backoff_min", "backoff_max", "drain_timeout"),
        "cutover": ("timeout", "verify_age_max"),
        "log": ("interval",),
    }
    for least, table in ((1, positive), (0, not_negative), (0.001, times)):
        for section, names in table.items():
            for name in names:
                _at_least(f"{section}.{name}", getattr(getattr(settings, section), name), least)
    _at_least("memory.budget", settings.memory.budget, _BUDGET_MIN)
    stream = settings.stream
    if stream.batch_records > stream.buffer_records:
        raise invalid("stream.batch_records", "is above stream.buffer_records")
    if stream.batch_bytes > stream.buffer_bytes:
        raise invalid("stream.batch_bytes", "is above stream.buffer_bytes")
    if stream.backoff_min > stream.backoff_max:
        raise invalid("stream.backoff_min", "is above stream.backoff_max")
    _one_of("log.level", settings.log.level, ("debug", "info", "warning", "error"))
    _one_of("log.format", settings.log.format, ("auto", "json", "console"))


def _check_cutover(settings: Settings) -> None:
    for role in ("fence", "switch"):
        part = getattr(settings.cutover, role)
        assert isinstance(part, (ManualSettings, HttpSettings, AliasSettings))
        if isinstance(part, HttpSettings):
            _check_url(f"cutover.{role}.url", part.url)
            _sendable(f"cutover.{role}.token", part.token)
            _at_least(f"cutover.{role}.timeout", part.timeout, 0.001)
        elif isinstance(part, AliasSettings):
            _check_aliases(settings, part)
    for name in settings.hooks.__struct_fields__:
        hook = getattr(settings.hooks, name)
        if hook is not None:
            _check_hook(f"hooks.{name}", hook)


def _check_aliases(settings: Settings, switch: AliasSettings) -> None:
    path, aliases = "cutover.switch.aliases", switch.aliases
    if kind_of(settings.source) != switch.store or (
        store_address(settings.source) != store_address(settings.target)
    ):
        raise invalid(
            "cutover.switch.kind",
            f"{kind_of(switch)} needs source and target on one store of kind {switch.store}",
        )
    if len(aliases) != len(settings.collections):
        raise invalid(
            path, f"has {len(aliases)} names for {len(settings.collections)} collections"
        )
    taken = {c.source for c in settings.collections} | {c.target for c in settings.collections}
    for number, alias in enumerate(aliases):
        _filled(f"{path}[{number}]", alias)
        if alias in aliases[:number] or alias in taken:
            raise invalid(f"{path}[{number}]", f"{alias!r} is the name of something else here")


def _check_hook(path: str, hook: HookSettings) -> None:
    if (hook.command is None) == (not hook.url):
        raise invalid(path, "has either `command` or `url`")
    if hook.command is not None and (not hook.command or not hook.command[0]):
        raise invalid(f"{path}.command", "names no program")
    if hook.url:
        _check_url(f"{path}.url", hook.url)
    _at_least(f"{path}.timeout", hook.timeout, 0.001)


def _check_url(path: str, url: str) -> None:
    if why := why_no_url(url):
        raise invalid(path, why)


def _sendable(path: str, secret: Secret) -> None:
    why = why_not_sent(secret.reveal())
    if why is not None:
        raise invalid(path, why)


def _is_address(text: str, port_min: int) -> bool:
    match = _LISTEN.fullmatch(text)
    return match is not None and port_min <= int(match[2]) <= 65535


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _at_least(path: str, value: float, least: float) -> None:
    if why := why_below(value, least):
        raise invalid(path, why)


def _filled(path: str, value: str) -> None:
    if not value:
        raise invalid(path, "is empty")


def _one_of(path: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise invalid(path, f"is one of {', '.join(choices)}, not {value!r}")
