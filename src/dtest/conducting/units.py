"""How tests are cut into units: what a session takes at a time."""

from collections.abc import Iterable, Sequence

from dtest.events.suite import Selection
from dtest.suites.history import History
from dtest.suites.plan import plan
from dtest.suites.pools import Pool
from dtest.suites.suite import Suite
from dtest.suites.unit import Part, Test, Unit


def units_of(
    pool: Pool, selection: Selection, history: History, *, sessions: int, whole: Sequence[str] = ()
) -> list[Unit]:
    """Cut tests, and files that run as a whole, into what the sessions take at a time."""
    units = plan(history.predicted(pool.tests), sessions=sessions)
    taken = history.of_files(whole)
    timed = sorted(((taken[file], file) for file in whole), reverse=True)
    units += (Unit(f"w{n}", (Part(file),), took_s) for n, (took_s, file) in enumerate(timed))
    if selection.failed_first:
        failed = {
            each.test.number for each in pool.tests if history.has_failed(each.keys, each.file)
        }
        units.sort(
            key=lambda unit: (
                not any(test.number in failed for part in unit.parts for test in part.tests or ())
            )
        )
    return units


def again(tests: Iterable[tuple[str, Test]], found: Suite) -> list[Unit]:
    """Return units that run each test alone, given with its file; those of a whole one together.

    The same tests make the same units: one that is put a second time is left alone.
    """
    whole: dict[str, list[Test]] = {file: [] for file in found.whole}
    parts: list[Part] = []
    for file, test in tests:
        if file in whole:
            whole[file].append(test)
        else:
            parts.append(Part(file, (test,)))
    parts += (Part(file, tuple(tests), file) for file, tests in whole.items() if tests)
    return [Unit(f"again-{number}", (part,)) for number, part in enumerate(parts)]
