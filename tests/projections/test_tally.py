"""Tests are counted as they come, from whatever moment on, as the view of the rows counts them."""

from pathlib import Path
from random import Random

import pytest

from dtest.events.fields import RunId
from dtest.events.suite import HARDWARE_CLASS
from dtest.projections.projector import OUTCOMES
from dtest.projections.store import Store
from tests.projections.history import Delivery, History, in_batches, project

pytestmark = pytest.mark.anyio
RUN = RunId("run-1")
OUTCOME = ("passed", "failed", "skipped", "error")


def eventful(luck: Random) -> History:
    """Two classes of hardware that share numbers, tests without one, and all of it again."""
    told = History()
    told.elect()
    told.join("w1", slots=8)
    for place, lane in enumerate(("", "cuda", "cuda", "rocm")):
        labels = {HARDWARE_CLASS: lane} if lane else {}
        told.queue(
            f"t{place}",
            labels=labels,
            run_id="run-1" if place < 3 or luck.random() < 0.5 else "other",
        )
        told.assign(f"t{place}", 1, "w1")
    for ordinal in range(1, luck.randint(2, 60)):
        number = luck.choice([None, *range(6)])
        nodeid = f"a.py::t{luck.randrange(4) if number is None else number}"
        named = {"number": number, "nodeid": nodeid, "outcome": luck.choice(OUTCOME)}
        told.say(told.case(f"t{luck.randrange(4)}", 1, "w1", ordinal, **named))
    return told


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_counted_is_what_stands_in_the_rows(tmp_path: Path, seed: int) -> None:
    luck = Random(seed)
    stored = eventful(luck).stored
    store = Store(tmp_path / "read-model.duckdb")
    projector = await project(
        store, Delivery(in_batches(stored, 3)), until=luck.randint(2, len(stored))
    )

    while True:
        counted = await projector.outcomes(RUN)
        assert counted == dict(store.query(OUTCOMES, [RUN]).rows)
        assert projector.tally.counts(RUN) == counted, "it runs, so it is counted"
        if projector.seq == len(stored):
            break
        await projector.run(until=min(len(stored), projector.seq + luck.randint(1, 9)))
    store.close()


async def test_a_run_that_has_ended_is_counted_no_more(store: Store, history: History) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.say(history.case("t1", 1, "w1", 1))
    projector = await project(store, Delivery(in_batches(history.stored, 1)))
    assert await projector.outcomes(RUN) == {"passed": 1}
    history.finish("t1", 1, "w1")

    ended = await project(store, Delivery(in_batches(history.stored, 1)))

    assert await ended.outcomes(RUN) == {"passed": 1}
    assert ended.tally.counts(RUN) is None
