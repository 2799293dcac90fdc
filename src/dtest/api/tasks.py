"""Tasks: submit, list, show, explain, cancel, retry, output, artefacts."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from dtest.api.body import StrictRoute
from dtest.api.context import ApiContext, Context
from dtest.api.listing import After, Cursor, Limit, Listing, one_of, page
from dtest.api.models import Page, ReasonBody, Requested, Submitted, SubmittedTask, WhyAnswer
from dtest.client import Placed, event_ids, parse_tasks
from dtest.errors import Conflict, NotFound
from dtest.events.codec import fingerprint
from dtest.events.fields import RunId
from dtest.events.reasons import RefusalCode
from dtest.events.run import RunOpened
from dtest.events.task import TaskCancelRequested, TaskQueued, TaskRetryRequested
from dtest.projections.plain import readable
from dtest.reports.observation import Outcome
from dtest.scheduling.why import explain, types_offered
from dtest.state.task import TERMINAL, Status
from dtest.wording import did_you_mean

router = APIRouter(prefix="/api", tags=["tasks"], route_class=StrictRoute)

TASKS = Listing(
    "SELECT * FROM (SELECT *, printf('%020d/%s', seq, task_id) AS page_key FROM tasks)",
    "page_key",
    str,
    frozenset({"document"}),
)
ATTEMPTS = "SELECT * FROM attempts WHERE task_id = ? ORDER BY attempt"
ATTEMPTS_JSON = frozenset({"artifacts", "fallback_config"})
CASES = Listing(
    "SELECT * FROM (SELECT *, printf('%020d/%s/%06d/%09d', seq, task_id, attempt, ordinal) "
    "AS page_key FROM testcases)",
    "page_key",
    str,
    frozenset({"properties", "suite_properties"}),
)
EXAMPLE = {
    "type": "command",
    "config": {"command": ["python3", "-c", "print('hello')"]},
    "requirements": {"hardware": ["cuda", "rocm"], "min_memory_gb": 8},
    "priority": 1,
    "timeout_seconds": 1800,
    "retry_policy": {"max_retries": 3, "retry_delay_seconds": 60},
}
READ_BACK_S_MAX = 2.0


class SubmitBody(BaseModel):
    """Several tasks as one run."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[list[dict[str, Any]], Field(min_length=1)]
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] = "run"
    labels: dict[str, str] = Field(default_factory=dict)


Documents = Annotated[list[dict[str, Any]], Field(min_length=1)]


def _form(body: object) -> str:
    if isinstance(body, list):
        return "several"
    return "batch" if isinstance(body, dict) and "tasks" in body else "one"


OneOrSeveral = Annotated[
    Annotated[SubmitBody, Tag("batch")]
    | Annotated[Documents, Tag("several")]
    | Annotated[dict[str, Any], Tag("one")],
    Discriminator(_form),
]


@router.post("/tasks/submit", status_code=202, summary="Submit one task or a batch")
async def submit(
    request: Request,
    context: Context,
    body: Annotated[
        OneOrSeveral,
        Body(
            openapi_examples={
                "one": {"summary": "One task document", "value": EXAMPLE},
                "batch": {"summary": "A run", "value": {"name": "nightly", "tasks": [EXAMPLE]}},
                "several": {"summary": "The tasks of a run alone", "value": [EXAMPLE]},
            }
        ),
    ],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="The same key again submits nothing again.",
        ),
    ] = None,
) -> Submitted:
    """Record tasks. The answer says of each whether the cell accepted it."""
    if isinstance(body, list):
        body = SubmitBody(tasks=body)
    batch = body if isinstance(body, SubmitBody) else None
    documents = [body] if isinstance(body, dict) else body.tasks
    ids = event_ids(idempotency_key, 1 + len(documents))
    run_id = _run_of(body) or RunId(ids[0] if ids else context.new_id())
    tasks = parse_tasks(
        documents,
        new_id=context.new_id,
        run_id=run_id,
        idempotency_key=idempotency_key,
    )
    opened = RunOpened(run_id, batch.name, batch.labels) if batch is not None else None
    size = len(await request.body())
    placed = await _record(context, opened, tasks, ids=ids, document_bytes=size)
    seq = max(place.seq for place in placed)
    reached = await context.projector.reached(seq, wait_s=READ_BACK_S_MAX)
    async with context.projector.lock:  # workers come and go in its thread
        offered = types_offered(context.projector.rows.cell)
    results = [
        _outcome(context, task, place, offered, reached=reached)
        for task, place in zip(tasks, placed, strict=True)
    ]
    if all(result.status == "refused" for result in results):
        message = f"refused: {results[0].code}: {results[0].detail}"
        raise Conflict(message, hint=f"the bytes stand in the journal at {seq}")
    return Submitted(run_id=run_id, seq=seq, tasks=results)


async def _record(
    context: ApiContext,
    opened: RunOpened | None,
    tasks: list[TaskQueued],
    *,
    ids: list[str] | None,
    document_bytes: int,
) -> list[Placed]:
    """Append a submission if there is room for it: in the cell, and in the journal."""
    backlog = context.admission.backlog
    unfinished = context.unfinished()
    backlog.admit(context.projector.rows.cell, len(tasks))
    seq: int | None = None
    try:
        await context.room.admit(document_bytes, tasks=len(tasks), unfinished=unfinished)
        if opened is not None:
            await context.client.say([opened], ids=ids and ids[:1])
        placed = await context.client.say(tasks, ids=ids and ids[1:])
        seq = max(place.seq for place in placed)
    finally:
        backlog.sent(len(tasks), seq)
    return placed


def _run_of(body: SubmitBody | dict[str, Any]) -> RunId | None:
    """Return the run that a submission names; a task with an id of its own always gets the same."""
    if isinstance(body, SubmitBody):
        return RunId(body.run_id) if body.run_id is not None else None
    if body.get("run_id") is not None:
        return RunId(str(body["run_id"]))
    derived = event_ids(f"run of {body['task_id']}", 1) if "task_id" in body else None
    return RunId(derived[0]) if derived else None


def _outcome(
    context: ApiContext, task: TaskQueued, place: Placed, offered: list[str], *, reached: bool
) -> SubmittedTask:
    refusal = context.projector.rows.refused.get((place.seq, place.index))
    if refusal is not None:
        return SubmittedTask(
            task_id=task.task_id, status="refused", code=refusal.code, detail=refusal.detail
        )
    if not reached:
        return SubmittedTask(task_id=task.task_id, status="sent")
    if _is_recorded(context, task):
        note = _unserved(task, offered)
        return SubmittedTask(task_id=task.task_id, status="accepted", note=note)
    return SubmittedTask(
        task_id=task.task_id,
        status="refused",
        code=RefusalCode.TASK_CONFLICT,
        detail="its idempotency key was used for another submission, which alone is recorded",
    )


def _unserved(task: TaskQueued, offered: list[str]) -> str:
    """Say so if no worker runs such tasks now; ``offered`` are the types that some worker runs."""
    if task.type in offered:
        return ""
    if not offered:
        return "no worker is registered: it waits for one"
    meant = did_you_mean(task.type, offered)
    return f"no worker runs tasks of type {task.type!r}{meant}; there are: {', '.join(offered)}"


def _is_recorded(context: ApiContext, task: TaskQueued) -> bool:
    known = context.projector.rows.cell.tasks.get(task.task_id)
    if known is None:
        return False
    spec = known.spec
    return spec == task if spec is not None else known.fingerprint == fingerprint(task)


@router.get("/tasks", summary="List tasks, newest first")
async def list_tasks(
    context: Context,
    run_id: Annotated[str | None, Query(max_length=200)] = None,
    status: Annotated[list[Status] | None, Query(max_length=20)] = None,
    worker_id: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return tasks that fit all filters."""
    filters = {
        "run_id = ?": run_id,
        "worker_id = ?": worker_id,
        **dict([one_of("status", status)]),
    }
    return await page(context, TASKS, filters, limit=limit, cursor=cursor, after=after)


@router.get("/tasks/{task_id}", summary="One task with its attempts")
async def show_task(context: Context, task_id: str, after: After = None) -> dict[str, Any]:
    """Return the task; the id may be a unique beginning."""
    await context.caught_up(after)
    task = context.task(task_id)
    seq = context.projector.seq
    found = await page(context, TASKS, {"task_id = ?": task.id}, limit=1, cursor=None, after=None)
    if not found.items:
        message = f"task {task.id} is not projected yet"
        raise NotFound(message, hint="ask with ?after=<seq>")
    rows = (await context.read(ATTEMPTS, [task.id])).records()
    attempts = [readable(row, ATTEMPTS_JSON) for row in rows]
    own = found.items[0]["document"].get("config", {})
    for attempt in attempts:  # what it really ran
        attempt["config"] = (
            own if attempt["fallback_config"] is None else attempt["fallback_config"]
        )
        attempt["fallback"] = attempt.pop("fallback_config") is not None
    return {**found.items[0], "attempts": attempts, "as_of_seq": seq}


@router.get("/results/{task_id}", summary="The result of a task: verdict, attempts, test cases")
async def show_result(context: Context, task_id: str, after: After = None) -> dict[str, Any]:
    """Return everything that the task's attempts reported."""
    shown = await show_task(context, task_id, after)
    cases = await page(
        context, CASES, {"task_id = ?": shown["task_id"]}, limit=1000, cursor=None, after=None
    )
    return {**shown, "testcases": cases.items, "testcases_next": cases.next}


@router.get("/testcases", summary="List test cases, newest first")
async def list_cases(
    context: Context,
    run_id: Annotated[str | None, Query(max_length=200)] = None,
    task_id: Annotated[str | None, Query(max_length=200)] = None,
    outcome: Annotated[list[Outcome] | None, Query(max_length=10)] = None,
    since: Annotated[int | None, Query(ge=0, le=2**53, description="From this seq on.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return test cases that fit all filters."""
    filters = {
        "run_id = ?": run_id,
        "task_id = ?": task_id,
        "seq >= ?": since,
        **dict([one_of("outcome", outcome)]),
    }
    return await page(context, CASES, filters, limit=limit, cursor=cursor, after=after)


@router.get("/tasks/{task_id}/why", summary="Why the task does not run now")
async def why(context: Context, task_id: str, after: After = None) -> WhyAnswer:
    """Return all reasons together."""
    await context.caught_up(after)
    async with context.projector.lock:
        task = context.task(task_id)
        reasons = explain(context.projector.rows.cell, task, context.now())
        return WhyAnswer(
            task_id=task.id,
            status=str(task.status),
            reasons=[
                {
                    "code": reason.code,
                    "text": reason.text,
                    "worker_id": reason.worker_id,
                    "task_id": reason.task_id,
                }
                for reason in reasons
            ],
            seq=context.projector.seq,
        )


@router.post("/tasks/{task_id}/cancel", status_code=202, summary="Cancel a task")
async def cancel(context: Context, task_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request; a running attempt is stopped with its whole process tree."""
    task = context.task(task_id)
    reason = body.reason if body is not None else ""
    status = task.status
    placed = await context.client.say([TaskCancelRequested(task.id, reason)])
    note = f"it has ended already, {status}: this changes nothing" if status in TERMINAL else ""
    return Requested(seq=placed[0].seq, note=note)


@router.post("/tasks/{task_id}/retry", status_code=202, summary="Run an ended task once more")
async def retry(context: Context, task_id: str, body: ReasonBody | None = None) -> Requested:
    """Record the request. A task that passed, or has not ended, is not retried."""
    task = context.task(task_id)
    reason = body.reason if body is not None else ""
    status = task.status
    placed = await context.client.say([TaskRetryRequested(task.id, reason)])
    seq = placed[0].seq
    await context.projector.reached(seq, wait_s=READ_BACK_S_MAX)
    refusal = context.projector.rows.refused.get((seq, 0))
    if refusal is not None:
        raise Conflict(refusal.detail, hint="submit it again under another id")
    note = ""
    if status not in TERMINAL:
        note = f"it has not ended, {status}: this changes nothing"
    elif status is Status.PASSED:
        note = "it has passed: this changes nothing"
    return Requested(seq=seq, note=note)


@router.get(
    "/tasks/{task_id}/logs",
    summary="The output of an attempt, as its bytes",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def logs(
    context: Context,
    task_id: str,
    attempt: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
) -> StreamingResponse:
    """Return what was stored so far, of the latest attempt by default."""
    task = context.task(task_id)
    chunks = context.output.chunks(task.id, attempt or max(1, task.attempt))

    async def body() -> Any:  # noqa: ANN401 - an async generator of bytes
        async for _, chunk in chunks:
            yield chunk

    return StreamingResponse(body(), media_type="application/octet-stream")


@router.get(
    "/tasks/{task_id}/artifacts/{attempt}/{name:path}",
    summary="One artefact of an attempt",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def artifact(context: Context, task_id: str, attempt: int, name: str) -> Response:
    """Return a file that the attempt left in its artefact directory."""
    task = context.task(task_id)
    content = await context.artifacts.get(f"{task.id}/{attempt}/{name}")
    return Response(content, media_type="application/octet-stream")
