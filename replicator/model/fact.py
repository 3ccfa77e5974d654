"""
Facts that outlive their cause: once seen they hold, through restarts, until a person
acknowledges them.

A key in the wrong partition may have lost its order; a foreign program in our group may have
written what we do not know of. That the cause is gone by the time somebody looks at the gate
proves nothing. So such a fact is latched in the record, closes the gate, and is cleared by
`replicator acknowledge CODE`, which is journalled with the evidence.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec


class FactCode(Enum):
    """What can be latched; the codes are those of the gate's blockers."""

    MISPLACED = "misplaced-keys"
    INTRUDER = "group-foreign"
    LAPSE = "fence-lapsed"


ACKNOWLEDGED = frozenset({FactCode.MISPLACED, FactCode.INTRUDER})
"""What a person's word clears. A lapse ends with its attempt, and not before."""
VOIDS_EVIDENCE = frozenset({FactCode.MISPLACED})
"""After one of these was acknowledged, only a full verification begun afterwards counts."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One latched fact: what was seen first, and when."""

    code: FactCode
    message: str
    at: float
    evidence: dict[str, Any] = {}
