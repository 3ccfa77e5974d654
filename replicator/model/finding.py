"""What checks and verifications find."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from replicator.errors import CODES
from replicator.model.event import Key


class Severity(Enum):
    """`blocks` stops the command (exit 2); `warns` is for the operator to weigh; `informs` is a
    fact.
    """

    BLOCKS = "blocks"
    WARNS = "warns"
    INFORMS = "informs"


class CheckFinding(msgspec.Struct, frozen=True):
    """One result of the preflight. `subject` names the part, as in `feed`,
    `target/articles_v2`.
    """

    severity: Severity
    code: str
    subject: str
    message: str

    @property
    def hint(self) -> str:
        """What to do about it."""
        return CODES[self.code]


class Blocker(msgspec.Struct, frozen=True):
    """One reason why the gate is closed, or why something waits."""

    code: str
    message: str
    hint: str = ""
    """What to do about it."""


class Difference(Enum):
    """How the two stores differ on a key."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A key on which both stores differ, after every excuse has been ruled out."""

    key: Key
    kind: Difference
    detail: str
    """Which field differs and how, without values: `payload.year`, `vectors.title (max 3e-3)`.
    """
    generation: int
    at: float


class SettingDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a collection that is not as the plan says. `wanted` or `actual` is None
    where there is none.
    """

    code: str
    setting: str
    """In the store's words: `hnsw_config.m`, `vectors.title.modifier`, `indexes.body.stemmer`.
    """
    wanted: Any
    actual: Any
    blocks: bool
    """It closes the gate: nobody accepted it, and it matters."""

    def __str__(self) -> str:
        return f"{self.setting}: {_shown(self.wanted)} → {_shown(self.actual)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


_SHOWN_CHARS = 60
"""Of a setting's value in a sentence. A list of stopwords may fill pages."""
