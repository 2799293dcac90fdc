"""Which tests run again, where, and by whom."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dtest.conducting.lanes import queue_of
from dtest.conducting.spans import Holders, numbers_in, spans_of
from dtest.conducting.units import again
from dtest.events.fields import RunId, WorkerId
from dtest.events.suite_decision import NamedTest, SuitePooled, SuiteRerunOrdered
from dtest.reports.verdicts import BAD, Result
from dtest.suites.reruns import Again, elsewhere
from dtest.suites.suite import Suite
from dtest.suites.unit import Test, Unit

NAMED_MAX = 1_000
"""Of one order."""
_Failed = tuple[int, tuple[str, str]]
"""A test by its number, or -1 and its file and name where only running told of it."""


def is_worth_it(result: Result) -> bool:
    """Say whether a second try could tell more: not of what cannot be collected."""
    found = result.deciding
    is_known = result.number is not None or not result.is_task
    return result.verdict in BAD and is_known and found is not None and found.phase != "collect"


def rerun_orders(
    run_id: RunId, number: int, results: Sequence[Result], pools: Sequence[SuitePooled]
) -> list[SuiteRerunOrdered]:
    """Return the orders of the n-th round: what failed, elsewhere; nothing if nothing failed."""
    failed = [result for result in results if is_worth_it(result)]
    made: list[SuiteRerunOrdered] = []
    worker = 0
    for pool, kind, some in _by_pool(failed, pools):
        wishes: list[tuple[_Failed, list[str]]] = [
            (test, [bad.worker_id for bad in result.bad if bad.worker_id]) for test, result in some
        ]
        requirements = pool.requirements
        if kind in requirements.hardware:  # where it failed, not on any of several kinds
            requirements = replace(requirements, hardware=(kind,))
        for group in elsewhere(wishes, sessions=max(1, pool.sessions)):
            for part in _fitting(group):
                queue = f"{queue_of(run_id)}r{number}x{len(made)}"
                order = SuiteRerunOrdered(
                    run_id,
                    number,
                    len(made),
                    1,
                    queue,
                    pool.hardware,
                    spans_of(place for place, _ in part.tests if place >= 0),
                    tuple(NamedTest(*name) for place, name in part.tests if place < 0),
                    requirements,
                    tuple(map(WorkerId, part.avoid)),
                    part.sessions,
                    worker,
                )
                made.append(order)
                worker += part.sessions
    return [replace(order, parts=len(made)) for order in made]


def _fitting(group: Again[_Failed]) -> Iterator[Again[_Failed]]:
    """Cut a group so that each part fits into a fact."""
    for first in range(0, len(group.tests), NAMED_MAX):
        tests = group.tests[first : first + NAMED_MAX]
        share = max(1, round(group.sessions * len(tests) / len(group.tests)))
        yield Again(tests, group.avoid, min(share, len(tests)))


def _by_pool(
    failed: Sequence[Result], pools: Sequence[SuitePooled]
) -> list[tuple[SuitePooled, str, list[tuple[_Failed, Result]]]]:
    """Sort results by the pool that their tests are of, and the hardware that they failed on."""
    able = [pool for pool in pools if pool.queue is not None]
    lanes: dict[str, list[SuitePooled]] = {}
    for pool in able:
        lanes.setdefault(pool.hardware, []).append(pool)
    holders = {name: Holders([pool.tests for pool in found]) for name, found in lanes.items()}
    groups: dict[tuple[str, str], tuple[SuitePooled, list[tuple[_Failed, Result]]]] = {}
    for result in failed:
        kind = result.key.hardware
        name = kind if kind in lanes else ""
        if name not in lanes:
            continue
        pool, test = lanes[name][0], (-1, (result.key.nodeid.partition("::")[0], result.key.nodeid))
        if result.number is not None:
            at = holders[name].holder(result.number)
            if at is None:
                continue  # a number of no plan: an error that no second try mends
            pool, test = lanes[name][at], (result.number, ("", ""))
        groups.setdefault((str(pool.queue), kind), (pool, []))[1].append((test, result))
    return [(pool, kind, some) for (_, kind), (pool, some) in groups.items()]


def units_again(order: SuiteRerunOrdered, lists: Mapping[str, Suite]) -> list[Unit]:
    """Return the units of an order; ``lists`` are those of each class of hardware."""
    suite = lists[order.hardware]
    tests = [(suite.file_at(place), suite.test_at(place)) for place in numbers_in(order.tests)]
    named = [(each.file, Test(name=each.nodeid)) for each in order.named]
    return again([*tests, *named], suite)
