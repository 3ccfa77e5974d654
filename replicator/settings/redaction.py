"""Settings as plain data that may be shown: in status, plan and reports."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.settings.credentials import HIDDEN, without_credentials
from replicator.settings.cutover import HookSettings
from replicator.settings.settings import Settings
from replicator.settings.units import Duration, Secret, Size


def redacted(settings: Settings) -> dict[str, Any]:
    """
    Every setting, defaults included, with `kind` where there is one. Secrets show as `***` when
    set, and so do the user and the query of a URL and the arguments of a command, any of which
    may hold a credential; durations and sizes are as people write them.
    """
    shown = _shown(settings)
    assert isinstance(shown, dict)
    return shown


def secrets_of(value: object) -> list[str]:
    """Every secret in settings, revealed: to be hidden where somebody repeats one."""
    match value:
        case Secret():
            return [value.reveal()]
        case msgspec.Struct():
            parts = [getattr(value, name) for name in value.__struct_fields__]
        case dict():
            parts = list(value.values())
        case list() | tuple():
            parts = list(value)
        case _:
            parts = []
    return [secret for part in parts for secret in secrets_of(part)]


def _shown(value: object) -> Any:
    match value:
        case HookSettings(command=[program, *arguments]):
            command = [without_credentials(program), *[HIDDEN] * len(arguments)]
            return _shown(msgspec.structs.replace(value, command=None)) | {"command": command}
        case msgspec.Struct():
            tag = value.__struct_config__.tag
            kind = {} if tag is None else {"kind": tag}
            return kind | {
                name: _shown(getattr(value, name)) for name in value.__struct_fields__
            }
        case Secret():
            return HIDDEN if value.reveal() else ""
        case Duration() | Size():
            return str(value)
        case dict():
            return {without_credentials(name): _shown(each) for name, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
        case str():
            return without_credentials(str(value))  # a pattern is a text to whoever looks
        case _:
            return value
