"""Ask the API for all that is known of a run, and make a report of it."""

from collections.abc import Iterable, Iterator
from typing import Any

from dtest.cli.api_client import Asked
from dtest.reports.muting import NONE_MUTED, KnownFlaky
from dtest.reports.observation import Attempt, Observation
from dtest.reports.reading import attempt_of, known_of, observation_of
from dtest.reports.report import Report, compose

PAGE_ITEMS = 1_000


def gather(
    api: Asked,
    run: str = "@last",
    *,
    api_url: str = "",
    flaky: KnownFlaky = NONE_MUTED,
    planned: Iterable[dict[str, Any]] | None = None,
) -> Report:
    """Return the report of a run, named by its id, a unique beginning of it or ``@last``.

    ``planned`` are the rows of the plan, for whoever has told them itself and need not ask.
    Raises as the API does: NotFound, Unavailable.
    """
    found = api.get(f"/api/runs/{run}")
    run_id = str(found["run_id"])
    known = known_of(
        found,
        tasks=_pages(api, "/api/tasks", run_id),
        attempts=_pages(api, "/api/attempts", run_id),
        cases=_pages(api, "/api/testcases", run_id),
        planned=_pages(api, f"/api/runs/{run_id}/plan") if planned is None else planned,
        api_url=api_url,
    )
    return compose(known, flaky=flaky)


def attempts_of(api: Asked, run_id: str) -> Iterator[Attempt]:
    """Yield the attempts of a run, by its full id."""
    for item in _pages(api, "/api/attempts", run_id):
        yield attempt_of(item)


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
        fresh.append(observation_of(item))
    return fresh[::-1]


def _pages(api: Asked, path: str, run_id: str | None = None) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = api.get(path, run_id=run_id, limit=PAGE_ITEMS, cursor=cursor)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return
