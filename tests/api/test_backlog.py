"""How many tasks are taken, and when to ask again."""

import asyncio
from typing import Any, cast

import pytest

from dtest.api.backlog import Backlog
from dtest.api.lanes import RETRY_S_MAX, Lane
from dtest.api.limits import DEFAULT_LIMITS, limits_of
from dtest.errors import InvalidDocument, Overloaded, UsageError
from dtest.events.fields import CellId, TaskId
from dtest.settings import LIMITS, Setting, Settings
from dtest.state.cell import Cell
from dtest.state.task import Status

NOBODY = cast("Any", None)


class Watch:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def cell_of(tasks: int, *, ended: int = 0, seq: int = 0) -> Cell:
    cell = Cell(CellId("main"), seq=seq)
    cell.tasks.update({TaskId(f"t{number}"): NOBODY for number in range(tasks)})
    cell.ended[Status.PASSED] = ended
    return cell


def test_tasks_are_taken_up_to_the_bound() -> None:
    backlog = Backlog(10, monotonic=Watch())

    backlog.admit(cell_of(8, ended=3), 5)
    with pytest.raises(Overloaded) as raised:
        backlog.admit(cell_of(8, ended=3), 1)

    assert "10 unfinished tasks and has 10" in str(raised.value)
    assert backlog.refused == 1


def test_what_is_on_its_way_counts_until_the_read_model_has_it() -> None:
    backlog, cell = Backlog(10, monotonic=Watch()), cell_of(0)
    backlog.admit(cell, 6)
    assert backlog.unfinished(cell) == 6
    backlog.sent(6, seq=7)
    assert backlog.unfinished(cell) == 6

    assert backlog.unfinished(cell_of(6, seq=7)) == 6, "not twice"


def test_what_could_not_be_sent_counts_no_more() -> None:
    backlog, cell = Backlog(10, monotonic=Watch()), cell_of(0)
    backlog.admit(cell, 10)
    backlog.sent(10, seq=None)

    backlog.admit(cell, 10)


def test_what_never_fits_is_no_matter_of_waiting() -> None:
    with pytest.raises(InvalidDocument, match="11 tasks are more than the cell ever takes"):
        Backlog(10, monotonic=Watch()).admit(cell_of(0), 11)


@pytest.mark.parametrize(
    ("ended_in_10_s", "over", "seconds"),
    [(100, 10, 1), (100, 50, 5), (100, 55, 6), (10, 100, RETRY_S_MAX), (0, 1, RETRY_S_MAX)],
)
def test_the_wait_follows_the_rate_at_which_tasks_end(
    ended_in_10_s: int, over: int, seconds: int
) -> None:
    watch = Watch()
    backlog = Backlog(1_000, monotonic=watch)
    backlog.look(cell_of(0))
    watch.now += 10.0
    full = cell_of(1_000 + ended_in_10_s, ended=ended_in_10_s)

    with pytest.raises(Overloaded) as raised:
        backlog.admit(full, over)

    assert raised.value.retry_after_s == seconds


def test_a_rate_that_is_not_known_yet_means_soon() -> None:
    with pytest.raises(Overloaded) as raised:
        Backlog(1, monotonic=Watch()).admit(cell_of(5), 1)

    assert raised.value.retry_after_s == 1


def test_an_old_rate_is_forgotten() -> None:
    watch = Watch()
    backlog = Backlog(10, monotonic=watch)
    for ended in (0, 1_000_000):
        backlog.look(cell_of(0, ended=ended))
        watch.now += 10.0
    for _ in range(10):
        watch.now += 10.0
        backlog.look(cell_of(0, ended=1_000_000))

    assert backlog.ended_per_s == 0.0


async def test_a_lane_gives_back_every_place(anyio_backend: str) -> None:
    lane = Lane("reads", count_max=2, monotonic=Watch())
    with pytest.raises(ZeroDivisionError):
        async with lane.through():
            raise ZeroDivisionError
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), lane.through():
            await asyncio.Event().wait()

    assert (lane.count, lane.bytes) == (0, 0)
    async with lane.through(), lane.through():
        with pytest.raises(Overloaded, match="2 reads at once"):
            async with lane.through():
                pass
    assert (lane.accepted, lane.refused) == (4, 1)


async def test_a_lane_tells_to_wait_as_long_as_its_requests_take(anyio_backend: str) -> None:
    watch = Watch()
    lane = Lane("submissions", count_max=1, monotonic=watch)
    for _ in range(30):
        async with lane.through():
            watch.now += 7.0

    async with lane.through():
        with pytest.raises(Overloaded) as raised:
            async with lane.through():
                pass

    assert raised.value.retry_after_s == 7


def test_the_defaults_are_those_of_the_settings() -> None:
    stated = {name: float(LIMITS[name][0]) for name in DEFAULT_LIMITS.__dataclass_fields__}

    assert {name: getattr(DEFAULT_LIMITS, name) for name in stated} == stated


def test_a_reserve_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="journal_reserve_ratio is 1"):
        limits_of(Settings({"journal_reserve_ratio": Setting("1", "here")}))
