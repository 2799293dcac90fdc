"""A plan of n tests has n results, each of the test that it names: against a model without slices.

The run is the product's: suites, plans, units that are cut, given away and handed out again,
places by which a process finds its tests, verdicts. The model knows tests and how often each ran.
"""

import os
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import dtest.agents.pytest_session as sessions
from dtest.conducting.units import again
from dtest.events.suite_list import Function
from dtest.events.task import ANYWHERE
from dtest.reports.observation import Attempt, Known, Observation, Outcome, Part, Planned, Run
from dtest.reports.report import compose
from dtest.reports.verdicts import Verdict, judge
from dtest.suites.history import History
from dtest.suites.plan import plan
from dtest.suites.pools import divide
from dtest.suites.suite import Suite, joined
from dtest.suites.unit import Test, Unit, decode, encode, pieces_of, split
from dtest.suites.unit import joined as parts_of

sys.path.append(str(Path(sessions.__file__).with_name("plugin")))
from dtest_places import Missing, Place, Places, brief

PLANS = int(os.environ.get("CONSERVED_PLANS", "500"))
"""`just conserve` tries ten thousand."""
STYLES = ("plain", "equal", "new", "shuffled", "long")
OUTCOMES: tuple[Outcome, ...] = ("passed", "passed", "passed", "failed", "error", "skipped")


@dataclass(frozen=True)
class Real:
    """A test as it is, whatever a process calls it."""

    file: str
    function: str
    parameter: int


@dataclass
class Item:
    """The same, as one process collected it."""

    real: Real
    nodeid: str


@dataclass
class World:
    """What there is to test, and what happened: the model."""

    luck: Random
    functions: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """Number of tests and style of names of each function."""
    ran: dict[Real, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    observed: list[Observation] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def collected(self, process: int) -> tuple[list[Item], Places[Item]]:
        """Collect all, as a process of its own."""
        luck = Random(f"{self.luck.random()} {process}")
        items = []
        for (file, function), (count, style) in self.functions.items():
            numbers = list(range(count))
            if style == "shuffled":
                luck.shuffle(numbers)
            items += [
                Item(Real(file, function, n), self._name(file, function, n, style, luck))
                for n in numbers
            ]
        places: Places[Item] = Places()
        for item in items:
            real = item.real
            places.add(item, file=real.file, function=real.function, name=item.nodeid)
        return items, places

    @staticmethod
    def _name(file: str, function: str, n: int, style: str, luck: Random) -> str:
        told = {
            "equal": "check",
            "new": f"{function}[{luck.getrandbits(60):x}]",
            "long": f"{function}[{'y' * 300}::{n}]",
        }
        return f"{file}::{told.get(style, f'{function}[{n}]')}"


def made(luck: Random) -> World:
    world = World(luck)
    for number in range(luck.randint(1, 6)):
        where = (f"f{number % 3}.py", f"T{number}::test")
        world.functions[where] = (luck.choice([1, 1, 2, 5, 9]), luck.choice(STYLES))
    return world


def suite_of(items: list[Item], places: Places[Item], luck: Random) -> tuple[Suite, list[Item]]:
    """Tell what was collected, as a session does, once a conftest file has chosen of it."""
    chosen = [item for item in items if luck.random() < 0.9]
    if luck.random() < 0.3:
        luck.shuffle(chosen)
    numbers: dict[tuple[str, str], int] = {}
    functions: list[Function] = []
    told = []
    for item in chosen:
        file, place = places.of(item)
        if (file, place.function) not in numbers:
            numbers[file, place.function] = len(functions)
            functions.append(Function(file, place.function, place.count, place.names))
        name = brief(item.nodeid)
        short = name if name != item.nodeid else ""
        told.append((numbers[file, place.function], place.index, short))
    groups = [luck.choice(["", "", f"{item.real.file}::g", "@printer"]) for item in chosen]
    tests = tuple((item.nodeid, group) for item, group in zip(chosen, groups, strict=True))
    suite = Suite(tests, functions=tuple(functions), places=tuple(told))
    return joined(suite.documents()), chosen


class Cell:
    """Sessions that pull units, give some of them away, and die."""

    def __init__(self, world: World, find: Callable[[Places[Item], str, Test], Item]) -> None:
        self.world = world
        self.luck = world.luck
        self.queue: deque[bytes] = deque()
        self.find = find
        self.gifts = 0

    def run(self, units: list[Unit], count: int) -> None:
        """Run units to the end, whatever dies."""
        self.queue.extend(map(encode, units))
        names = [self._session() for _ in range(count)]
        while self.queue:
            name = self.luck.choice(names)
            if not self._pulled(*name):
                names.remove(name)
                names.append(self._session())

    def _session(self) -> tuple[str, Places[Item]]:
        name = f"s{len(self.world.parts)}"
        self.world.parts.append(Part(name, name, "passed", is_session=True))
        self.world.attempts.append(Attempt(name, 1, "w", "cpu", "passed"))
        _, places = self.world.collected(len(self.world.parts))
        return name, places

    def _pulled(self, name: str, places: Places[Item]) -> bool:
        """Run one unit, or a part of it; say whether the session is still alive."""
        body = self.queue.popleft()
        unit = decode(body)
        pieces = pieces_of(unit)
        kept = self.luck.randint(1, len(pieces))
        if kept < len(pieces):  # somebody is hungry
            self.gifts += 1
            rest = Unit(f"{unit.id}-{self.gifts}", parts_of(pieces[kept:]))
            given = split(rest, self.luck.randint(1, 3))
            self.queue.extend(map(encode, given))
            body = encode(Unit(unit.id, parts_of(pieces[:kept])))
        for piece in pieces[:kept]:
            for part in piece:
                for test in part.tests or ():
                    if self.luck.random() < 0.02:
                        self.queue.append(body)  # nobody acknowledged it
                        return False
                    self._test(name, places, part.file, test)
        return True

    def _test(self, name: str, places: Places[Item], file: str, test: Test) -> None:
        try:
            item = self.find(places, file, test)
        except Missing as error:
            self._tell(name, test, test.name, "error", str(error))
            return
        outcome = self.luck.choice(OUTCOMES)
        self.world.ran[item.real].append(outcome)
        self._tell(name, test, item.nodeid, outcome, "")

    def _tell(self, name: str, test: Test, nodeid: str, outcome: Outcome, message: str) -> None:
        seq = len(self.world.observed) + 1
        seen = Observation(name, 1, seq, seq, nodeid, outcome, message=message, number=test.number)
        self.world.observed.append(seen)


def found(places: Places[Item], file: str, test: Test) -> Item:
    place = Place(test.function, test.index, test.count, test.names)
    item: Item = places.find(file, place, test.name)
    return item


def carried(
    seed: int, find: Callable[[Places[Item], str, Test], Item] = found
) -> tuple[World, dict[int | None, Verdict], dict[int | None, Real], Known]:
    """Return a world after a run: verdicts and real tests by number."""
    luck = Random(seed)
    world = made(luck)
    suite, chosen = suite_of(*world.collected(0), luck)
    (pool,) = divide(suite, [ANYWHERE] * len(chosen), ANYWHERE).pools or (None,)
    tests = pool.tests if pool is not None else ()
    cell = Cell(world, find)
    cell.run(plan(History().predicted(tests), sessions=3), luck.randint(1, 4))
    planned = tuple(Planned(nodeid, number=n) for n, (nodeid, _) in enumerate(suite.tests))

    def known() -> Known:
        told = Run("r", "r"), tuple(world.parts), tuple(world.attempts), tuple(world.observed)
        return Known(*told, planned)

    failed = {r.number for r in compose(known()).tests if r.verdict in {"failed", "error"}}
    more = [(each.file, each.test) for each in tests if each.test.number in failed]
    if luck.random() < 0.5:
        cell.run(again(more, suite), 2)
    results = {result.number: result.verdict for result in compose(known()).tests}
    assert len(results) == len(compose(known()).tests)
    return world, results, {n: item.real for n, item in enumerate(chosen)}, known()


def differences(seed: int, find: Callable[[Places[Item], str, Test], Item] = found) -> list[Any]:
    """Return the numbers whose verdict is not that of the test they stand for."""
    world, results, reals, _ = carried(seed, find)
    model = {number: judge(world.ran[real]) for number, real in reals.items()}
    wrong = [number for number in reals if results.get(number) != model[number]]
    return [*wrong, *(results.keys() - reals.keys())]


def test_every_planned_test_has_the_one_result_that_is_its_own() -> None:
    assert [seed for seed in range(PLANS) if differences(seed)] == []


def test_a_session_that_runs_the_neighbour_is_found() -> None:
    def neighbour(places: Places[Item], file: str, test: Test) -> Item:
        item = found(places, file, test)
        others = [each for each in places.of_file(file) if each is not item]
        return others[0] if others and test.number == 1 else item

    caught = sum(bool(differences(seed, neighbour)) for seed in range(200))
    possible = sum(len(carried(seed)[2]) > 1 for seed in range(200))

    assert caught > possible / 2, "in the others the neighbour came to the same, or is in its file"


def test_another_test_in_its_place_is_an_error_wherever_names_tell_them_apart() -> None:
    planned = tuple(Planned(f"a.py::t[{n}]", number=n) for n in range(2))
    parts = (Part("s", "s", "passed", is_session=True),)
    attempts = (Attempt("s", 1, "w", "cpu", "passed"),)
    seen = tuple(Observation("s", 1, n + 1, n, "a.py::t[0]", "passed", number=n) for n in range(2))

    report = compose(Known(Run("r", "r"), parts, attempts, seen, planned))

    assert [result.verdict for result in report.results] == ["passed", "error"]
    assert report.results[1].message == "another test ran in its place: a.py::t[0]"
    assert report.exit_code == 1


def lost(known: Known) -> Iterator[Known]:
    """Yield runs in which all results of one test are lost."""
    for number in {item.number for item in known.observations}:
        left = tuple(item for item in known.observations if item.number != number)
        yield Known(known.run, known.parts, known.attempts, left, known.planned)


def test_a_result_that_is_dropped_makes_a_run_short_and_not_green() -> None:
    for seed in range(20):
        *_, whole = carried(seed)
        for short in lost(whole):
            report = compose(short)
            counts = Counter(result.verdict for result in report.tests)
            assert counts["not_proven"] == 1
            assert sum(counts.values()) == report.planned == len(whole.planned)
            assert report.exit_code in {1, 3}
