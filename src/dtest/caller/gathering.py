"""Ask the API for all that is known of a run, and make a report of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dtest.caller.api_client import Asked, Streamed
from dtest.reports.muting import NONE_MUTED, KnownFlaky
from dtest.reports.observation import Attempt, Observation, Planned
from dtest.reports.reading import attempt_of, known_of, muted_of, observation_of, planned_of
from dtest.reports.report import Report, compose
from dtest.suites.suite import key_of

PAGE_ITEMS = 1_000
Place = tuple[int, str, int, int]
"""Of an observation: in the journal, its task, attempt and ordinal."""
FIRST: Place = (-1, "", 0, 0)


def gather(
    api: Streamed,
    run: str = "@last",
    *,
    api_url: str = "",
    flaky: KnownFlaky | None = None,
    found_here: KnownFlaky = NONE_MUTED,
    planned: Sequence[Planned] | None = None,
) -> Report:
    """Return the report of a run, named by its id, a unique beginning of it or ``@last``.

    ``flaky`` is the list to go by, by default that which a suite was handed in with, for any other
    run ``found_here``; ``planned`` are the rows of the plan, for whoever has them. Raises as the
    API does: NotFound, Unavailable.
    """
    found = api.get(f"/api/runs/{run}")
    run_id = str(found["run_id"])
    suite = found["suite"]
    known = known_of(
        found,
        tasks=_pages(api, "/api/tasks", run_id=run_id),
        attempts=_pages(api, "/api/attempts", run_id=run_id),
        observed=api.lines(f"/api/runs/{run_id}/testcases.jsonl", observation_of),
        planned=plan_of(api, run_id) if planned is None else planned,
        suite=suite,
        api_url=api_url,
    )
    if flaky is None:
        flaky = muted_of(suite) if suite is not None else found_here
    return compose(known, flaky=flaky)


def plan_of(api: Streamed, run_id: str) -> list[Planned]:
    """Return what a run is to prove, in the order of its numbers."""
    return api.lines(f"/api/runs/{run_id}/plan.jsonl", planned_of)


def keys_of(plan: Iterable[Planned]) -> dict[tuple[str, int | None], tuple[str, str]]:
    """Return what names each planned test in other runs, by its class and number."""
    equal: Counter[tuple[str, str]] = Counter()
    keys: dict[tuple[str, int | None], tuple[str, str]] = {}
    for each in plan:
        if each.number is not None:
            hardware = each.hardware or ""
            equal[hardware, each.nodeid] += 1
            by_id = key_of(each.nodeid, equal[hardware, each.nodeid])
            keys[hardware, each.number] = by_id, each.place
    return keys


def attempts_of(api: Asked, run_id: str) -> Iterator[Attempt]:
    """Yield the attempts of a run, by its full id."""
    for item in _pages(api, "/api/attempts", run_id=run_id):
        yield attempt_of(item)


def fresh_observations(
    api: Asked, run_id: str, after: Place, outcomes: Sequence[str] = ()
) -> list[Observation]:
    """Return what is new since an observation, oldest first; by default of any outcome."""
    fresh: list[Observation] = []
    asked = {"run_id": run_id, "outcome": list(outcomes) or None, "since": max(0, after[0])}
    for item in _pages(api, "/api/testcases", **asked):
        if (item["seq"], item["task_id"], item["attempt"], item["ordinal"]) <= after:
            break
        fresh.append(observation_of(item))
    return fresh[::-1]


def place_of(seen: Observation) -> Place:
    """Return the place of an observation."""
    return seen.seq, seen.task_id, seen.attempt, seen.ordinal


def _pages(api: Asked, path: str, **query: object) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = api.get(path, **query, limit=PAGE_ITEMS, cursor=cursor)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return
