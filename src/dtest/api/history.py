"""What the cell knows of a suite from its latest runs: how long each test took, and how it ended.

Only what the read model holds: after it was made anew, as much as the journal still tells.
"""

import asyncio
import zlib
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from dtest.api.body import StrictRoute
from dtest.api.context import ApiContext, Context
from dtest.api.listing import After
from dtest.errors import DtestError

RUNS_MAX: Final = 10
"""Only so many of the latest runs are looked at: what is older says little, and would be slow."""
TESTS_MAX: Final = 100_000
ANSWER_BYTES_MAX: Final = 900_000

router = APIRouter(prefix="/api", tags=["runs"], route_class=StrictRoute)

RECENT = "SELECT run_id, seq FROM runs WHERE name = ? ORDER BY seq DESC LIMIT ?"
# By sequence number as well: rows lie in its order, so that most of them are not even looked at.
# What was cut off with its process tells neither how long the test takes nor whether it fails.
LATEST = """
SELECT list(row(nodeid, duration_s, failed)) FROM (
    SELECT
        nodeid,
        max_by(duration_s, place) AS duration_s,
        max_by(outcome IN ('failed', 'error'), place) AS failed
    FROM (
        SELECT testcases.*, testcases.seq * 1000000 + ordinal AS place, attempts.hardware
        FROM testcases JOIN attempts USING (task_id, attempt)
        WHERE testcases.seq >= ? AND list_contains(?, run_id)
    )
    WHERE hardware = ? AND phase <> 'collect' AND NOT starts_with(message, 'interrupted:')
    GROUP BY nodeid
    LIMIT ?
)
"""


class SuiteHistory(BaseModel):
    """The tests of a suite: equal places of the lists belong together."""

    suite: str
    hardware: str
    nodeids: list[str]
    durations_s: list[float] = Field(description="Of each test when it ran last.")
    failed: list[bool] = Field(description="Whether it did not pass then.")
    truncated: bool = Field(description="There are more tests than an answer holds.")
    seq: int


@router.get(
    "/history",
    summary="The latest duration and outcome of each test of a suite",
    response_model=SuiteHistory,
)
async def history(
    context: Context,
    suite: Annotated[str, Query(min_length=1, max_length=200, description="Name of its runs.")],
    hardware: Annotated[str, Query(min_length=1, max_length=100)] = "cpu",
    after: After = None,
) -> Response:
    """Return what the latest runs of that name told, on one class of hardware."""
    await context.caught_up(after)
    content = await remembered(context, suite, hardware)
    return Response(orjson.dumps(content), media_type="application/json")


async def remembered(context: ApiContext, suite: str, hardware: str) -> dict[str, object]:
    """Return what the latest runs of a suite told of its tests on one class of hardware."""
    seq = context.projector.seq
    recent = (await context.read(RECENT, [suite, RUNS_MAX])).rows
    found: list[tuple[str, float, bool]] = []
    if recent:
        runs, since = [run_id for run_id, _ in recent], min(at for _, at in recent)
        answer = await context.read(LATEST, [since, runs, hardware, TESTS_MAX + 1])
        found = answer.rows[0][0] or []
    nodeids, durations_s, failed = zip(*found[:TESTS_MAX], strict=True) if found else ((), (), ())
    return {
        "suite": suite,
        "hardware": hardware,
        "nodeids": nodeids,
        "durations_s": durations_s,
        "failed": failed,
        "truncated": len(found) > TESTS_MAX,
        "seq": seq,
    }


async def answered(context: ApiContext, question: bytes) -> bytes:
    """Answer a conductor's question in the form of the HTTP API, compressed by zlib.

    Nothing for a question that is not understood, and where the answer fits into no message.
    """
    try:
        asked = orjson.loads(question)
        content = await remembered(context, str(asked["suite"]), str(asked["hardware"]))
    except (ValueError, KeyError, TypeError, DtestError):
        return b""
    packed = await asyncio.to_thread(lambda: zlib.compress(orjson.dumps(content), 1))
    return packed if len(packed) <= ANSWER_BYTES_MAX else b""
