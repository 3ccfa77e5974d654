"""
Credentials in texts that are no secrets by themselves: in the user part or the query of a URL,
wherever in a text the URL stands; and which secrets can be sent at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
_HIDDEN_CHARS_MIN = 4
"""Of what is hidden where somebody repeats it. Less is a flag or a number, and no secret; to
hide it would leave nothing to read."""

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)"
    r"(?P<user>[^\s?#'\"]*@)?"
    r"(?P<place>[^\s?#'\"]*)"
    r"(?P<query>\?[^\s#'\"]*)?"
    r"(?P<fragment>#[^\s'\"]*)?"
)
_USER = re.compile(r"(?<![\w/.\-])[^\s:/@,'\"]+:(?!//)[^\s@,'\"]+@")
"""`user:password@`, with no scheme before it, as in a list of hosts."""


def without_credentials(text: str) -> str:
    """The text with user, query and fragment of each URL in it hidden."""
    if "://" in text:
        text = _URL.sub(_hidden, text)
    return _USER.sub(f"{HIDDEN}@", text) if "@" in text else text


def without(text: str, told: Iterable[str]) -> str:
    """The text, of whoever was told these in confidence, with each of them hidden in it."""
    for each in sorted(told, key=len, reverse=True):
        if len(each) >= _HIDDEN_CHARS_MIN:
            text = text.replace(each, HIDDEN)
    return without_credentials(text)


def _hidden(match: re.Match[str]) -> str:
    return "".join(
        [
            match["scheme"],
            f"{HIDDEN}@" if match["user"] else "",
            match["place"],
            f"?{HIDDEN}" if match["query"] else "",
            f"#{HIDDEN}" if match["fragment"] else "",
        ]
    )


def why_not_sent(secret: str) -> str | None:
    """Why this cannot be sent in a header, which holds one line of printable ASCII."""
    if any(char in secret for char in "\r\n"):
        return "holds a line break (from a file that ends with one?), which cannot be sent"
    if secret != secret.strip():
        return "begins or ends with a space, which would be lost on the way"
    if not all(" " <= char <= "~" for char in secret):
        return "holds a character that is not printable ASCII, and cannot be sent"
    return None
