"""How ``dtest test`` cuts a suite, by what is known of it."""

from collections.abc import Collection, Sequence

from dtest.cli.suite_options import Selection
from dtest.suites.history import History
from dtest.suites.plan import plan
from dtest.suites.pools import PoolTest
from dtest.suites.unit import Unit


def units_of(
    tests: Sequence[PoolTest], selection: Selection, history: History, *, sessions: int
) -> list[Unit]:
    """Cut tests into what the sessions take at a time."""
    predicted = history.predicted(
        [(test.nodeid, test.group) for test in tests], [test.place for test in tests]
    )
    units = plan(predicted, sessions=sessions)
    if selection.failed_first:
        units.sort(key=lambda unit: not _holds(unit, history.failed))
    return units


def _holds(unit: Unit, nodeids: Collection[str]) -> bool:
    return any(nodeid in nodeids for part in unit.parts for _, nodeid in part.tests or ())
