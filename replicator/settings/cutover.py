"""Settings of cutover and revert: fence, switch, hooks and their times."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from replicator.settings.units import Duration, Secret, Size


class ManualSettings(
    msgspec.Struct,
    tag="manual",
    tag_field="kind",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A person does it and says so."""


class HttpSettings(
    msgspec.Struct,
    tag="http",
    tag_field="kind",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """
    The application does it over HTTP. Fence: `POST {url}` with `{"action": "close",
    "deadline_s": n, "attempt": "…"}`, answered with 200 once every writer has flushed; a
    further close moves the deadline, at which the application opens by itself;
    `{"action": "open", "attempt": "…"}` opens, and a close of that attempt that arrives later
    is not obeyed, nor is an open of another attempt than the one it is closed for: status 409.
    Both may be answered with `{"holder", "closed_s", "held_s", "writers"}`. Switch:
    `POST {url}` with `{"to": "source"|"target", "epoch": n}`, and `GET {url}` answers
    `{"active": "source"|"target", "epoch": n}`, the epoch it was told last.
    Status 429 or 503 says: nothing done, come again.
    """

    url: str
    """Where to send the requests."""
    token: Secret = Secret("")
    """Sent as `Authorization: Bearer …`."""
    timeout: Duration = Duration(30)
    """How long one request may take."""


class AliasSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The switch moves aliases of one store that holds both ends. Each kind of store that can
    brings a section of its own.
    """

    store: ClassVar[str]
    """The kind of store whose aliases they are."""
    aliases: list[str]
    """Alias names, one for each of [[collections]]."""


FenceSettings = ManualSettings | HttpSettings
SwitchSettings = ManualSettings | HttpSettings | AliasSettings


class HookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command to run or a URL to POST to. It fails on a non-zero exit or a status of 400 and
    above.
    """

    command: list[str] | None = None
    """Program and arguments; step and migration come in REPLICATOR_STEP and REPLICATOR_NAME."""
    url: str = ""
    """Gets a POST with `{"step", "name", "direction"}`."""
    timeout: Duration = Duration(60)
    """After it, the hook has failed."""


class HooksSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hooks at the steps of a cutover or revert. A failing hook aborts the step."""

    before_fence: HookSettings | None = None
    """Before the writer fence closes."""
    after_fence: HookSettings | None = None
    """After the fence has closed, before the drain is awaited."""
    before_switch: HookSettings | None = None
    """After the last comparison, before the point of no return."""
    after_switch: HookSettings | None = None
    """After traffic was switched, before the fence opens. Its failure is shown, and changes
    nothing."""
    after_open: HookSettings | None = None
    """After the fence has opened. Its failure is shown, and changes nothing."""


class CutoverSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gate, the fence and the switch."""

    fence: FenceSettings = ManualSettings()
    """How writers are stopped."""
    switch: SwitchSettings = ManualSettings()
    """How traffic moves."""
    timeout: Duration = Duration(300)
    """The whole attempt; over it the fence opens again."""
    delivery_timeout: Duration = Duration(120)
    """Longest a fenced producer may still retry. The straggler check of a fence that rests on a
    word spans it."""
    verify_age_max: Duration = Duration(86400)
    """A full verification must be younger than this."""
    lag_records_max: int = 1000
    """The gate opens below this many unapplied records."""
    lag_seconds_max: Duration = Duration(10)
    """The gate opens when the oldest unapplied event is younger than this."""
    touched_keys_max: int = 50_000
    """Keys that the last comparison holds in memory at a time; more are taken in several passes
    over the log."""
    epoch: int = 0
    """The route's epoch when the migration begins, where writers stamp one already and the
    switch cannot tell it."""
    touched_bytes_max: Size = Size(64 << 20)
    """Memory of those keys, and of the images that the log holds of them, at a time."""
    way_back_lossy: bool = False
    """Waive the blocker that the transform loses data, so that the old store cannot hold every
    later change."""
