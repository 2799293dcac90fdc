"""A run of a suite in the fold: its name is its own for ever, and lists are told in order."""

from dtest.events.fields import RunId
from dtest.events.suite import SuiteSubmitted
from dtest.events.suite_decision import SuiteEnded
from dtest.events.suite_list import ListPart, SuiteListed
from dtest.state.suite import Phase
from tests.kit.world import World

RUN = RunId("nightly")
ASKED = SuiteSubmitted(RUN, cwd="/srv/one")


def test_what_is_asked_for_again_changes_nothing() -> None:
    world = World().led().given(ASKED).given(ASKED)

    assert not world.cell.refusals
    assert list(world.cell.conducted) == [RUN]


def test_other_content_under_a_known_name_is_refused_also_after_the_end() -> None:
    other = SuiteSubmitted(RUN, cwd="/srv/other")
    world = World().led().given(ASKED)

    world.given(other)
    assert len(world.cell.refusals) == 1
    world.given(SuiteEnded(RUN, 0)).given(ASKED)
    assert world.cell.suites[RUN].phase is Phase.ENDED
    assert len(world.cell.refusals) == 1
    world.given(other)
    assert len(world.cell.refusals) == 2
    assert not world.cell.conducted


def test_parts_of_a_list_count_in_order_and_once() -> None:
    first = SuiteListed("ab" * 32, 0, ListPart(2, (("a", ""), ("b", ""))))
    second = SuiteListed("ab" * 32, 1, ListPart(2, (("c", ""),)))
    world = World().led().given(second).given(first).given(first).given(second).given(second)

    (found,) = world.cell.lists.values()
    assert (found.told, found.tests) == (2, 3)
