"""What the leader of a stream says of its copies, and when that makes the stream whole."""

from dataclasses import replace

import pytest

from dtest.journal.cluster import HEARD_MS_MAX, LAG_MAX, Placement, Replica

LEADER = Replica("n1", leads=True, current=True, offline=False, lag=0, heard_ms=None)
COPY = Replica("n2", leads=False, current=True, offline=False, lag=0, heard_ms=250.0)
WHOLE = Placement("journal", "n1", clustered=True, replicas=(LEADER, COPY), copies=2, messages=7)


@pytest.mark.parametrize(
    "copy",
    [COPY, replace(COPY, current=False, lag=LAG_MAX), replace(COPY, heard_ms=HEARD_MS_MAX)],
    ids=["current", "nearly", "heard lately"],
)
def test_a_stream_is_whole_with_every_copy_near(copy: Replica) -> None:
    assert replace(WHOLE, replicas=(LEADER, copy)).is_whole


@pytest.mark.parametrize(
    ("copy", "words"),
    [
        (replace(COPY, offline=True), "n2 is offline"),
        (replace(COPY, current=False, lag=LAG_MAX + 1), f"n2 lags by {LAG_MAX + 1}"),
        (replace(COPY, current=False), "n2 lags by 0"),
        (replace(COPY, heard_ms=6_000.0), "n2 was not heard for 6000 ms"),
    ],
    ids=["offline", "behind", "not caught up", "taken for current by a leader that is cut off"],
)
def test_a_copy_that_is_away_is_named(copy: Replica, words: str) -> None:
    placed = replace(WHOLE, replicas=(LEADER, copy))

    assert not placed.is_whole
    assert placed.lacking() == f"journal: {words}"


def test_a_copy_that_was_not_made_yet_is_counted() -> None:
    placed = replace(WHOLE, replicas=(LEADER,))

    assert not placed.is_whole
    assert placed.lacking() == "journal: copies to be made: 1"


def test_a_server_that_stands_alone_is_whole_without_a_leader() -> None:
    assert replace(WHOLE, leader=None, clustered=False, replicas=(), copies=1).is_whole
