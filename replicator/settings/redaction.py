"""Settings as plain data that may be shown: in status, plan and reports."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from replicator.settings.settings import Settings
from replicator.settings.units import Duration, Secret, Size

_HIDDEN = "***"


def redacted(settings: Settings) -> dict[str, Any]:
    """
    Every setting, defaults included, with `kind` where there is one. Secrets show as `***` when
    set, and so do passwords inside URLs; durations and sizes are as people write them.
    """
    shown = _shown(settings)
    assert isinstance(shown, dict)
    return shown


def _shown(value: object) -> Any:
    match value:
        case msgspec.Struct():
            tag = value.__struct_config__.tag
            kind = {} if tag is None else {"kind": tag}
            return kind | {
                name: _shown(getattr(value, name)) for name in value.__struct_fields__
            }
        case Secret():
            return _HIDDEN if value.reveal() else ""
        case Duration() | Size():
            return str(value)
        case dict():
            return {name: _shown(each) for name, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
        case str():
            return _without_password(value)
        case _:
            return value


def _without_password(text: str) -> str:
    if "@" not in text or "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    if parts.password is None:
        return text
    place = f"{parts.username or ''}:{_HIDDEN}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=place))
