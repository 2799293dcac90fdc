"""Failed tests run again where they have not failed yet."""

from random import Random

from dtest.suites.reruns import AVOIDED_MAX, GROUPS_MAX, Again, elsewhere


def test_tests_that_failed_in_one_place_go_elsewhere_together() -> None:
    failed = [("a", ["w"]), ("b", ["v"]), ("c", ["w"]), ("d", ["w", "v"])]

    assert elsewhere(failed, sessions=4) == [
        Again(("a", "c"), ("w",), 2),
        Again(("b",), ("v",), 1),
        Again(("d",), ("v", "w"), 1),
    ]


def test_what_failed_in_several_places_avoids_them_all() -> None:
    assert elsewhere([("a", ["w"]), ("a", ["v"])], sessions=9) == [Again(("a",), ("v", "w"), 1)]


def test_nothing_that_failed_is_nothing_to_do() -> None:
    assert elsewhere([], sessions=3) == []


def test_every_test_is_run_again_once_by_bounded_means() -> None:
    for seed in range(200):
        rng = Random(seed)
        workers = [f"w{number}" for number in range(rng.choice([1, 3, 40]))]
        failed = [
            (f"t{number}", rng.sample(workers, rng.randint(0, len(workers))))
            for number in range(rng.randint(1, 60))
        ]
        sessions = rng.randint(1, 8)

        found = elsewhere(failed, sessions=sessions)

        nodeids = [nodeid for group in found for nodeid in group.tests]
        assert sorted(nodeids) == sorted(nodeid for nodeid, _ in failed)
        assert len(found) <= GROUPS_MAX + 1
        assert all(len(group.avoid) <= AVOIDED_MAX for group in found)
        assert all(1 <= group.sessions <= len(group.tests) for group in found)
        known = {nodeid: set(where) for nodeid, where in failed}
        assert all(set(group.avoid) <= known[each] for group in found for each in group.tests)
