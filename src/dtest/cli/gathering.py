"""Ask the API for all that is known of a run, and make a report of it."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from dtest.cli.api_client import Asked
from dtest.reports.muting import NONE_MUTED, KnownFlaky
from dtest.reports.observation import (
    HARDWARE_CLASS,
    Artifact,
    Attempt,
    Known,
    Observation,
    Part,
    Planned,
    Run,
)
from dtest.reports.report import Report, compose

PAGE_ITEMS = 1_000


def gather(
    api: Asked,
    run: str = "@last",
    *,
    api_url: str = "",
    planned: Iterable[Planned] = (),
    flaky: KnownFlaky = NONE_MUTED,
) -> Report:
    """Return the report of a run, named by its id, a unique beginning of it or ``@last``.

    ``planned`` are tests known to have been selected, besides those that the run's tasks name:
    those that nothing is known of are not proven. Raises as the API does: NotFound, Unavailable.
    """
    found = api.get(f"/api/runs/{run}")
    run_id = str(found["run_id"])
    known = Known(
        _run(found, api_url),
        tuple(_part(item) for item in _pages(api, "/api/tasks", run_id)),
        tuple(attempts_of(api, run_id)),
        tuple(_observation(item) for item in _pages(api, "/api/testcases", run_id)),
        tuple(planned),
    )
    return compose(known, flaky=flaky)


def attempts_of(api: Asked, run_id: str) -> Iterator[Attempt]:
    """Yield the attempts of a run, by its full id."""
    for item in _pages(api, "/api/attempts", run_id):
        yield _attempt(item)


def fresh_observations(
    api: Asked, run_id: str, after: tuple[int, str, int, int]
) -> list[Observation]:
    """Return what is new since an observation, oldest first.

    That one is named by its place in the journal, its task, attempt and ordinal.
    """
    fresh: list[Observation] = []
    for item in _pages(api, "/api/testcases", run_id):
        if (item["seq"], item["task_id"], item["attempt"], item["ordinal"]) <= after:
            break
        fresh.append(_observation(item))
    return fresh[::-1]


def _pages(api: Asked, path: str, run_id: str) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = api.get(path, run_id=run_id, limit=PAGE_ITEMS, cursor=cursor)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def _run(item: dict[str, Any], api_url: str) -> Run:
    return Run(
        run_id=str(item["run_id"]),
        name=str(item["name"]),
        labels=tuple(sorted(item["labels"].items())),
        opened_at=_at(item["opened_at"]),
        finished=bool(item["finished"]),
        api_url=api_url,
    )


def _part(item: dict[str, Any]) -> Part:
    document = item["document"]
    wanted = document.get("requirements", {}).get("hardware", ())
    labels = document.get("labels", {})
    labelled = str(labels.get("rerun", ""))
    kind = wanted[0] if len(wanted) == 1 else None
    config = document.get("config", {})
    names_tests = item["type"] == "test" and "queue" not in config
    paths = config.get("paths", ()) if names_tests else ()
    return Part(
        task_id=item["task_id"],
        name=item["name"],
        status=item["status"],
        reason=item["reason"],
        seq=item["seq"],
        planned=tuple(path for path in paths if "::" in path),
        hardware=labels.get(HARDWARE_CLASS, kind),
        rerun=int(labelled) if labelled.isascii() and labelled.isdigit() else 0,
    )


def _attempt(item: dict[str, Any]) -> Attempt:
    left = item["artifacts"] or ()
    return Attempt(
        task_id=item["task_id"],
        attempt=item["attempt"],
        worker_id=item["worker_id"],
        hardware=item["hardware"],
        status=item["status"],
        reason=item["reason"],
        detail=item["detail"] or "",
        started_at=_at(item["started_at"]),
        finished_at=_at(item["finished_at"]),
        artifacts=tuple(Artifact(each["name"], each["size_bytes"]) for each in left),
    )


def _observation(item: dict[str, Any]) -> Observation:
    return Observation(
        task_id=item["task_id"],
        attempt=item["attempt"],
        ordinal=item["ordinal"],
        seq=item["seq"],
        nodeid=item["nodeid"],
        outcome=item["outcome"],
        phase=item["phase"],
        duration_s=item["duration_s"],
        message=item["message"],
        output=item["output"],
        file=item["file"],
        line=item["line"],
        worker_id=item["worker_id"],
    )


def _at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
