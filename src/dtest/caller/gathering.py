"""Ask the API for all that is known of a run, and make a report of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dtest.caller.api_client import Asked
from dtest.reports.muting import NONE_MUTED, KnownFlaky
from dtest.reports.observation import Attempt, Observation
from dtest.reports.reading import attempt_of, known_of, muted_of, observation_of
from dtest.reports.report import Report, compose
from dtest.suites.suite import key_of

PAGE_ITEMS = 1_000
Place = tuple[int, str, int, int]
"""Of an observation: in the journal, its task, attempt and ordinal."""
FIRST: Place = (-1, "", 0, 0)


def gather(
    api: Asked,
    run: str = "@last",
    *,
    api_url: str = "",
    flaky: KnownFlaky | None = None,
    found_here: KnownFlaky = NONE_MUTED,
    planned: Iterable[Mapping[str, Any]] | None = None,
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
        cases=_pages(api, "/api/testcases", run_id=run_id),
        planned=plan_rows(api, run_id) if planned is None else planned,
        suite=suite,
        api_url=api_url,
    )
    if flaky is None:
        flaky = muted_of(suite) if suite is not None else found_here
    return compose(known, flaky=flaky)


def plan_rows(api: Asked, run_id: str) -> list[dict[str, Any]]:
    """Return what a run is to prove, in the order of its numbers."""
    return [*_pages(api, f"/api/runs/{run_id}/plan")][::-1]


def keys_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int | None], tuple[str, str]]:
    """Return what names each planned test in other runs, by its class and number."""
    equal: Counter[tuple[str, str]] = Counter()
    keys: dict[tuple[str, int | None], tuple[str, str]] = {}
    for row in rows:
        if row["number"] is not None:
            equal[row["hardware"], row["nodeid"]] += 1
            by_id = key_of(row["nodeid"], equal[row["hardware"], row["nodeid"]])
            keys[row["hardware"], row["number"]] = by_id, row["place"]
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
    for item in _pages(api, "/api/testcases", run_id=run_id, outcome=list(outcomes) or None):
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
