"""What a run came to, judged from the read model by the same function as every report."""

from typing import Any

from pydantic import BaseModel, Field

from dtest.api.context import ApiContext
from dtest.api.suites import suite_row
from dtest.events.fields import RunId
from dtest.projections.past import ATTEMPTS, JSON, PLANNED, ROWS_MAX, RUN, TASKS
from dtest.projections.plain import readable
from dtest.reports.muting import NONE_MUTED
from dtest.reports.reading import has_ended, known_of, muted_of, observation_of, planned_of
from dtest.reports.report import compose

LISTED_MAX = 100
NAME_CHARS_MAX = 2_000
# What tests wrote is for reports: a verdict does not follow from it.
CASES = "SELECT * REPLACE ('' AS output) FROM testcases WHERE run_id = ? ORDER BY seq, ordinal"


class Told(BaseModel):
    """A test or a task that did not simply pass."""

    name: str
    hardware: str
    verdict: str
    message: str


class VerdictAnswer(BaseModel):
    """The verdict on a run."""

    run_id: str
    finished: bool
    exit_code: int = Field(description="0 all well, 1 failed, 3 not proven, 5 nothing, 130 stopped")
    verdict: str
    counts: dict[str, int]
    planned: int | None = Field(description="How many tests were planned; none without a plan.")
    told: list[Told] = Field(description=f"At most {LISTED_MAX} that did not pass, worst first.")
    notes: list[str]


async def verdict_of(context: ApiContext, run_id: RunId) -> VerdictAnswer:
    """Judge a run as it stands."""

    async def rows(sql: str) -> list[dict[str, Any]]:
        answer = await context.read(sql, [run_id], rows_max=ROWS_MAX)
        return [readable(record, JSON) for record in answer.records()]

    (run,) = await rows(RUN)
    suite = await suite_row(context, run_id)
    known = known_of(
        {**run, "finished": has_ended(run, suite)},
        tasks=await rows(TASKS),
        attempts=await rows(ATTEMPTS),
        observed=map(observation_of, await rows(CASES)),
        planned=map(planned_of, await rows(PLANNED)),
        suite=suite,
    )
    report = compose(known, flaky=muted_of(suite) if suite is not None else NONE_MUTED)
    told = [
        Told(
            name=result.key.nodeid[:NAME_CHARS_MAX],
            hardware=result.key.hardware,
            verdict=result.verdict,
            message=result.message[:NAME_CHARS_MAX],
        )
        for result in report.worst_first
        if result.verdict not in {"passed", "skipped", "xfailed"}
    ]
    return VerdictAnswer(
        run_id=run_id,
        finished=known.run.finished,
        exit_code=report.exit_code,
        verdict=report.in_words,
        counts={str(name): count for name, count in report.counts.items()},
        planned=report.planned,
        told=told[:LISTED_MAX],
        notes=list(report.notes),
    )
