"""Plans of runs, as a caller tells them: the tests by number, and what else is to have a result."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dtest.api.listing import Listing
from dtest.errors import InvalidDocument
from dtest.events.fields import RunId
from dtest.events.suite import NODEIDS_MAX, PlannedTest, SuitePlanned

TESTS_MAX = 1_000_000
BYTES_MAX = 500_000
"""Of the node ids of one event: it has to fit into a message."""

PLANS = Listing(
    "SELECT * FROM (SELECT *, printf('%020d/%020d', seq, idx) AS page_key FROM plans)",
    "page_key",
    str,
)


class PlanBody(BaseModel):
    """What a run is to prove on one class of hardware."""

    model_config = ConfigDict(extra="forbid")

    hardware: Annotated[str, Field(max_length=200)] = ""
    tests: Annotated[list[PlannedTest], Field(max_length=TESTS_MAX)] = Field(default_factory=list)
    files: list[str] = Field(
        default_factory=list, description="What is told when it is collected: broken files."
    )


def planned_events(run_id: RunId, body: PlanBody) -> list[SuitePlanned]:
    """Return the facts that tell a plan. Raises InvalidDocument for numbers given twice."""
    total = len(body.tests)
    numbers = {test.number for test in body.tests}
    if len(numbers) != total:
        message = f"{total} tests have {len(numbers)} numbers"
        raise InvalidDocument(message, hint="give each test of a plan its own number")
    facts = [
        SuitePlanned(run_id, total, body.hardware, tuple(some)) for some in _chunks(body.tests)
    ]
    for first in range(0, len(body.files), NODEIDS_MAX):
        files = tuple(body.files[first : first + NODEIDS_MAX])
        facts.append(SuitePlanned(run_id, total, body.hardware, files=files))
    return facts or [SuitePlanned(run_id, 0, body.hardware)]


def _chunks(tests: Sequence[PlannedTest]) -> Iterator[list[PlannedTest]]:
    some: list[PlannedTest] = []
    size = 0
    for test in tests:
        more = len(test.nodeid.encode("utf-8", "replace")) + len(test.cause)
        if some and (len(some) >= NODEIDS_MAX or size + more > BYTES_MAX):
            yield some
            some, size = [], 0
        some.append(test)
        size += more
    if some:
        yield some
