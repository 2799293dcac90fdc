"""How ``dtest test`` cuts a suite, by what is known of it."""

import uuid
from collections.abc import Collection, Iterable, Sequence

from dtest.cli.suite_options import Selection
from dtest.suites.history import History
from dtest.suites.plan import plan
from dtest.suites.pools import Pool
from dtest.suites.suite import Suite
from dtest.suites.unit import Part, Unit


def units_of(
    pool: Pool, selection: Selection, history: History, *, sessions: int, whole: Sequence[str] = ()
) -> list[Unit]:
    """Cut tests, and files that run as a whole, into what the sessions take at a time."""
    predicted = history.predicted(
        [(test.nodeid, test.group) for test in pool.tests], [test.place for test in pool.tests]
    )
    units = plan(predicted, sessions=sessions)
    timed = sorted(((history.of_file(file), file) for file in whole), reverse=True)
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
