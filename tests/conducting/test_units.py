"""What sessions are handed: all of a suite, what takes longest first; what failed, again."""

import pytest

from dtest.conducting.orders import Order
from dtest.conducting.units import again, units_of
from dtest.events.fields import RunId
from dtest.events.runner import Runner
from dtest.events.suite import Selection, SuiteSubmitted
from dtest.events.task import Requirements
from dtest.suites.history import History
from dtest.suites.pools import Pool
from dtest.suites.suite import Suite
from dtest.suites.unit import Part, Test

MIXED = Suite(
    tests=(("a.py::one", ""), ("a.py::two", "")), broken=("c.py",), whole=("slow.t", "quick.t")
)


def test_files_that_run_as_a_whole_are_units_longest_first() -> None:
    history = History({"quick.t::x": 1.0, "slow.t::x": 2.0})

    units = units_of(Pool(Requirements(), ()), Selection(), history, sessions=2, whole=MIXED.whole)

    assert [unit.parts for unit in units] == [(Part("slow.t"),), (Part("quick.t"),)]
    assert [unit.seconds for unit in units] == [2.0, 1.0]


def test_what_failed_runs_again_alone_and_that_of_a_whole_file_together() -> None:
    two, x, own = Test(1, name="a.py::two"), Test(name="slow.t::x"), Test(name="slow.t")

    units = again([("slow.t", x), ("a.py", two), ("slow.t", own)], MIXED)

    assert [unit.parts[0] for unit in units] == [
        Part("a.py", (two,)),
        Part("slow.t", (x, own), group="slow.t"),
    ]
    assert len({unit.id for unit in units}) == 2


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("one", {"a.py::one", "a.py::[one]"}),
        ("[one]", {"a.py::[one]"}),
        ("*::o*", {"a.py::one"}),
        ("nobody", set()),
        ("", {"a.py::one", "a.py::[one]", "b.py::two"}),
    ],
)
def test_a_word_or_a_pattern_chooses_tests_where_pytest_does_not(
    word: str, names: set[str]
) -> None:
    suite = Suite(tests=(("a.py::one", ""), ("a.py::[one]", ""), ("b.py::two", "")))
    selection = Selection(keyword=word)
    order = Order(SuiteSubmitted(RunId("r"), runner=Runner("unittest"), selection=selection))

    found = order.selected(suite)

    assert {nodeid for nodeid, _ in found.tests} == names
