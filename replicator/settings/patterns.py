"""
Names of collections as they stand in the configuration: one name, or a pattern for all that
match.

`*` is any text, the empty one too; `?` any one character; `[ab]` and `[a-z]` one of those,
`[!ab]` any but those. A character in brackets of its own is itself, so that `[*]` is a star:
a text without any other brackets, stars and question marks is one name.
"""

from __future__ import annotations

import fnmatch

OWN_NAME = "*"
"""At the target: the name that a collection has at the source."""


class Pattern(str):
    """A pattern as it is written. Upper and lower case are two."""

    __slots__ = ()

    def matches(self, name: str) -> bool:
        """Whether it stands for this name, the whole of it."""
        return fnmatch.fnmatchcase(name, str(self))


def read_name(text: str) -> str:
    """
    What a text in the configuration means: the name itself, or a Pattern. Raises ValueError
    with a sentence for a bracket that nothing closes.
    """
    name = ""
    at, is_pattern = 0, False
    while at < len(text):
        char, at = text[at], at + 1
        if char == "[":
            # A bracket right behind the opening one is a member, and closes nothing.
            end = text.find("]", at + 1 + (text[at : at + 1] == "!"))
            if end < 0:
                raise ValueError("has a `[` that no `]` closes; the character itself is `[[]`")
            char, at = text[at:end], end + 1
            is_pattern |= len(char) > 1
        else:
            is_pattern |= char in "*?"
        name += char
    return Pattern(text) if is_pattern else name
