"""`${NAME}` and `${NAME:-default}` in strings of the configuration; `$${` is a plain `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from replicator.errors import Refused
from replicator.settings.convert import step

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-)([^}]*))?\}|\$\{")


def substitute(value: Any, env: Mapping[str, str], path: str = "") -> Any:
    """
    The value with every string's references replaced; what they bring is not looked into again.
    As in a shell, the default also stands in for a variable that is set to nothing.

    Raises Refused("config-env") for a variable that is not set, naming it and the path.
    """
    if isinstance(value, dict):
        return {name: substitute(each, env, step(path, name)) for name, each in value.items()}
    if isinstance(value, list):
        return [substitute(each, env, f"{path}[{number}]") for number, each in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, has_default, default = match.groups()
        if name is None:
            raise Refused(
                "config-env",
                f"{path}: `${{` does not begin ${{NAME}} or ${{NAME:-default}};"
                " write `$${` for a plain one",
            )
        found = env.get(name)
        if has_default:
            return found or default
        if found is None:
            raise Refused("config-env", f"{path}: environment variable {name} is not set")
        return found

    return _REFERENCE.sub(replace, value)
