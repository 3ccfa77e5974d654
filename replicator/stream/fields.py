"""
Payload fields on their way: keep, drop, default, cast, rename, constant; and the place that is
kept for those computed from the key.

Each step treats a top-level field by its name alone, never by what other fields hold. That is
what makes a patch portable (see `stream.transform`). So two fields that would land in one are
refused, not resolved: with `rename = {a = "b"}` a point that has its own `b` is rejected, with
or without `a`, and so is a patch that sets `b`. Else the order of two patches would decide
which of both survives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from replicator.errors import Refused, Rejected
from replicator.model.point import Payload
from replicator.settings.transform import TransformSettings
from replicator.stream.cast import cast


class FieldMap:
    """The payload steps of one collection's transform. Pure and immutable."""

    def __init__(self, steps: TransformSettings) -> None:
        """Raises Refused("transform-invalid") for steps that contradict each other."""
        self._keep = None if steps.keep is None else frozenset(steps.keep)
        self._drop = frozenset(steps.drop)
        self._cast = steps.cast
        self._constant = steps.constant
        self._settled = steps.constant.keys() | steps.computed.keys()
        """Fields of the target that no field of the source reaches."""
        self._rename = {
            field: name
            for field, name in steps.rename.items()
            if field != name and (self.travels(field) or field in steps.default)
        }
        self._taken = frozenset(self._rename.values()) - self._rename.keys() - self._settled
        if len(set(self._rename.values())) < len(self._rename):
            raise refused("rename", "two fields cannot become one")
        self._defaults = self._checked_defaults(steps.default)
        self.identity = not (
            self._keep is not None
            or self._drop
            or self._cast
            or self._settled
            or self._rename
            or self._defaults
        )
        """Every payload passes as it is."""

    def travels(self, field: str) -> bool:
        """Whether `keep` and `drop` let the source's field through."""
        return (self._keep is None or field in self._keep) and field not in self._drop

    def target_name(self, field: str) -> str | None:
        """
        What the source's field is called at the target; None when its value does not reach it.
        Raises Rejected("transform-failed") for a field whose place another one takes.
        """
        if not self.travels(field):
            return None
        if field in self._taken:
            raise Rejected(
                "transform-failed",
                "another field is renamed to this one's name; rename or drop this one",
                f"payload.{field}",
            )
        name = self._rename.get(field, field)
        return None if name in self._settled else name

    def payload(self, payload: Payload) -> Payload:
        """
        The target's payload. Raises Rejected("transform-failed") with the field's path. A value
        that does not reach the target, because a constant stands there, is not judged.
        """
        if self.identity:
            return payload
        fields = self.set(payload)
        for name, value in self._defaults.values():
            fields.setdefault(name, value)
        fields.update(self._constant)
        return fields

    def set(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What setting these source fields sets at the target. Raises as `payload` does."""
        fields: dict[str, Any] = {}
        for field, value in changes.items():
            name = self.target_name(field)
            if name is not None:
                fields[name] = self._value(field, value)
        return fields

    def unset(self, removed: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        """
        What removing these source fields sets and unsets at the target: a field with a default
        falls back to it.
        """
        sets: dict[str, Any] = {}
        unsets: list[str] = []
        for field in removed:
            # No carried point has a field whose place is taken, so nothing is to be removed.
            name = None if field in self._taken else self.target_name(field)
            if field in self._defaults:
                name, value = self._defaults[field]
                sets[name] = value
            elif name is not None:
                unsets.append(name)
        return sets, unsets

    def _value(self, field: str, value: Any) -> Any:
        wanted = self._cast.get(field)
        if wanted is None:
            return value
        try:
            return cast(wanted, value)
        except ValueError as exc:
            raise Rejected("transform-failed", str(exc), f"payload.{field}") from exc

    def _checked_defaults(self, defaults: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        checked: dict[str, tuple[str, Any]] = {}
        for field, value in defaults.items():
            if field in self._taken:
                raise refused(f"default.{field}", "another field is renamed to this name")
            if value is None:
                raise refused(f"default.{field}", "null is what a missing field is already")
            name = self._rename.get(field, field)
            try:
                cast_value = self._value(field, value)
            except Rejected as exc:
                raise refused(f"default.{field}", exc.message) from exc
            if name not in self._settled:
                checked[field] = (name, cast_value)
        return checked


def refused(at: str, why: str) -> Refused:
    """The error of a transform that cannot be carried out as it is written."""
    return Refused("transform-invalid", f"transform.{at}: {why}")
