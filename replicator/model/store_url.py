"""
A store, and mostly a collection of it, as one word: `chroma://localhost:8000/articles`.

The scheme is the kind; a transport may stand behind it, as in `qdrant+https://…`. The last part
of the path is the collection, or a pattern for several; without it all are meant. What stands
behind `?` are settings of the store, or options of its collection. Each part but the place is
percent-decoded. Secrets are no part of it.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec


class StoreUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one."""

    kind: str
    transport: str
    """What stands behind `+`; empty when nothing does."""
    place: str
    """Whatever stands between `//` and the path, as it is written."""
    folder: str
    """The path up to the collection, without the slash between; `/` alone stays."""
    collection: str | None
    given: dict[str, str]
    """Settings and options by name."""

    @property
    def path(self) -> str:
        """A folder of this machine. Raises ValueError where a host is named."""
        if self.transport or self.place:
            raise ValueError("a folder is written with three slashes, or none and one colon")
        if not self.folder:
            raise ValueError("it names no folder")
        return self.folder

    def http(self, port: int) -> str:
        """
        The address of a server; `port` is that of one without TLS for which none is given.
        Raises ValueError for what is no such address.
        """
        if self.transport not in ("", "http", "https"):
            raise ValueError(f"{self.transport!r} is no transport: http or https")
        if not self.place:
            raise ValueError("it names no host")
        if self.folder not in ("", "/"):
            raise ValueError("behind the host stands the collection, and nothing else")
        if self.transport == "https":
            return f"https://{self.place}"
        named = urlsplit(f"//{self.place}").port is not None
        return f"http://{self.place}" if named else f"http://{self.place}:{port}"


def read_store_url(text: str) -> StoreUrl:
    """Raises ValueError, with a sentence, for what is none."""
    parts = urlsplit(text)
    given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    kind, _, transport = parts.scheme.partition("+")
    if not kind:
        raise ValueError("it does not begin with a kind of store and a colon")
    if parts.fragment:
        raise ValueError("a `#` within a name is written %23")
    names = [name for name, _ in given]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} stands there twice")
    folder, slash, collection = parts.path.rpartition("/")
    return StoreUrl(
        kind=kind,
        transport=transport,
        place=parts.netloc,
        folder=unquote(folder or slash),
        collection=unquote(collection) or None,
        given=dict(given),
    )
