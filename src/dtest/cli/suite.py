"""How ``dtest test`` cuts a suite, by what was chosen and what is known of it."""

import uuid
from collections.abc import Collection, Iterable

from dtest.cli.suite_options import Selection
from dtest.suites.history import History
from dtest.suites.plan import plan
from dtest.suites.suite import Suite
from dtest.suites.unit import Part, Unit


def chosen(found: Suite, selection: Selection, history: History) -> Suite:
    """Return what is to run: only what failed last time, if that is asked for and anything did."""
    again = found.only(history.failed) if selection.last_failed else found
    return again if again.tests else found


def units_of(found: Suite, selection: Selection, history: History, *, sessions: int) -> list[Unit]:
    """Cut a suite into what the sessions take at a time."""
    units = plan(history.predicted(found.tests), sessions=sessions)
    if found.whole:
        timed = sorted(((history.of_file(file), file) for file in found.whole), reverse=True)
        units += (Unit(f"w{n}", (Part(file),), took_s) for n, (took_s, file) in enumerate(timed))
    if selection.failed_first:
        units.sort(key=lambda unit: not _holds(unit, history.failed))
    return units


def _holds(unit: Unit, nodeids: Collection[str]) -> bool:
    return any(nodeid in nodeids for part in unit.parts for _, nodeid in part.tests or ())


def shown(found: Suite) -> str:
    """Say what a suite holds."""
    broken = f", {len(found.broken)} could not be collected" if found.broken else ""
    if found.whole:
        return f"{len(found.whole)} to run, whose tests are not known before{broken}"
    return f"{len(found.tests)} tests in {len(found.files)} files{broken}"


def again(nodeids: Iterable[str], found: Suite) -> list[Unit]:
    """Return units that run each test alone; those of a file that runs as a whole, together."""
    places = found.places()
    whole: dict[str, list[tuple[int, str]]] = {file: [] for file in found.whole}
    parts: list[Part] = []
    for nodeid in nodeids:
        file = nodeid.partition("::")[0]
        test = (places.get(nodeid, 0), nodeid)
        if file in whole:
            whole[file].append(test)
        else:
            parts.append(Part(file, (test,)))
    parts += (Part(file, tuple(tests), together=True) for file, tests in whole.items() if tests)
    return [Unit(f"again-{uuid.uuid4().hex}", (part,)) for part in parts]
