"""Which results of a suite run are worth another try, and where their tests belong."""

from collections.abc import Sequence

from dtest.cli.suite_lots import Lot, Share
from dtest.reports.verdicts import BAD, Result
from dtest.suites.unit import Test


def is_worth_it(result: Result) -> bool:
    """Say whether a second try could tell more: not of what cannot be collected."""
    found = result.deciding
    is_known = result.number is not None or not result.is_task
    return result.verdict in BAD and is_known and found is not None and found.phase != "collect"


_Failed = tuple[tuple[str, Test], Result]
"""File and place of a test, and what it came to."""


def by_lot(
    failed: Sequence[Result], shares: Sequence[Share]
) -> list[tuple[Lot, str, list[_Failed]]]:
    """Sort results by the lot that their tests are of, and the hardware that they failed on."""
    homes = {
        (lot.lane.name, each.test.number): (lot, (each.file, each.test))
        for share in shares
        for lot in share.lots
        for each in lot.tests
    }
    others = {share.lane.name: share.lots[0] for share in shares if share.lots}
    groups: dict[tuple[str, str], tuple[Lot, list[_Failed]]] = {}
    for result in failed:
        kind = result.key.hardware
        name = kind if kind in others else ""
        file = result.key.nodeid.partition("::")[0]
        known = homes.get((name, result.number)) if result.number is not None else None
        lot, test = known or (others[name], (file, Test(name=result.key.nodeid)))
        groups.setdefault((lot.queue, kind), (lot, []))[1].append((test, result))
    return [(lot, kind, some) for (_, kind), (lot, some) in groups.items()]
