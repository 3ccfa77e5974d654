"""A plain copy that a command does itself, from its beginning or from where it was left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from replicator.errors import Refused

if TYPE_CHECKING:
    from replicator.model.report import Report
    from replicator.model.search import Query
    from replicator.model.status import Status
    from replicator.settings.settings import Settings
    from replicator.wiring import Service


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended."""

    done: bool
    """False where a signal ended it before."""
    copied: int
    report: Report | None
    """Of the comparison at the end."""


async def begin_again(label: str, settings: Settings, *, wiping: bool) -> None:
    """Raises Refused("phase-refused") where there is nothing left to do."""
    from replicator import clock
    from replicator.migration.copy.transfer import begin_again as begin
    from replicator.model.phase import Phase
    from replicator.wiring import load_standing, open_state

    if (await load_standing(settings)).record is None:
        return
    state = await open_state(settings)
    try:
        record = await begin(state, clock.wall, wiping=wiping)
    finally:
        await state.close()
    if record is not None and record.phase is Phase.COMPLETE:
        names = ", ".join(settings.targets)
        raise Refused(
            "phase-refused",
            f"this {label} is complete already; --wipe-target begins anew ({names})",
        )


def carry(
    label: str,
    settings: Settings,
    *,
    wipe: Sequence[str] = (),
    queries: Sequence[Query] | None = None,
) -> Carried:
    """
    Copy and compare, until all is done or a signal asks for the end. `queries` are asked of
    both stores; stored points when absent. Raises what ended it otherwise.
    """
    from replicator.daemon.process import run_loop

    return run_loop(_run(label, settings, wipe, queries))


async def _run(
    label: str, settings: Settings, wipe: Sequence[str], queries: Sequence[Query] | None
) -> Carried:
    from replicator.cli.waiting import Figures, shown
    from replicator.daemon.lifetime import Lifetime
    from replicator.daemon.signals import StopSignals
    from replicator.daemon.until import Goal, Until
    from replicator.model.phase import Phase
    from replicator.wiring import build

    def figures(status: Status) -> Figures:
        return Figures(status.backfill.copied, status.backfill.estimated)

    async def beat(service: Service) -> None:
        await shown(service, label=label, line_s=settings.log.interval, figures=figures)

    stop = StopSignals()
    stop.listen()
    async with build(settings, wipe=wipe, queries=queries) as assembly:
        lifetime = Lifetime(settings.stream, until=Until(Goal.CAUGHT_UP), beat=beat)
        await lifetime.run(assembly.service, stop)
        status = await assembly.service.status()
        return Carried(
            done=status.phase is Phase.COMPLETE,
            copied=status.backfill.copied,
            report=await assembly.service.report(),
        )
