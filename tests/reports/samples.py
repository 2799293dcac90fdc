"""Runs to report on: small makers, and one run in which everything happened. States no rule."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dtest.reports.muting import KnownFlaky, Muted
from dtest.reports.observation import (
    Artifact,
    Attempt,
    Known,
    Observation,
    Outcome,
    Part,
    Planned,
    Run,
)
from dtest.reports.report import Report, compose

OPENED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RUN = Run("run-1", "nightly", (("commit", "abc123"),), OPENED, api_url="http://127.0.0.1:1")
NASTY = "</script><script>document.title='taken'</script><!-- ]]> & \"quotes\" | `ticks` **bold**"
ILLEGAL = "\x00\x1b[31m\ufffe"
LONGREPR = """\
    def test_sum():
>       assert total([1, 2]) == 4

tests/test_math.py:12:
_ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _
src/maths.py:7: in total
    raise ValueError(f"no {thing}")
E   ValueError: no 0x7f12 at /tmp/a/b.txt

src/maths.py:7: ValueError"""


def seen(
    nodeid: str,
    outcome: Outcome = "passed",
    *,
    task: str = "t1",
    attempt: int = 1,
    ordinal: int = 1,
    seq: int | None = None,
    **more: Any,
) -> Observation:
    """An observation; later attempts stand later in the journal unless told otherwise."""
    where = seq if seq is not None else 100 * attempt + ordinal
    file = nodeid.partition("::")[0]
    return Observation(task, attempt, ordinal, where, nodeid, outcome, **{"file": file, **more})


def tried(
    task: str = "t1",
    attempt: int = 1,
    *,
    hardware: str = "cpu",
    status: str = "passed",
    **more: Any,
) -> Attempt:
    """An attempt."""
    begun = OPENED + timedelta(seconds=10 * attempt)
    times = {"started_at": begun, "finished_at": begun + timedelta(seconds=5)}
    worker = more.pop("worker_id", f"w{attempt}")
    return Attempt(task, attempt, worker, hardware, status, **{**times, **more})


def known(
    *observations: Observation,
    attempts: Sequence[Attempt] = (),
    parts: Sequence[Part] = (),
    planned: Sequence[Planned] = (),
) -> Known:
    """A run."""
    named = {(item.task_id, item.attempt) for item in attempts}
    others = {(item.task_id, item.attempt) for item in observations} - named
    made = [tried(*where) for where in sorted(others)]
    return Known(RUN, tuple(parts), (*attempts, *made), tuple(observations), tuple(planned))


def everything() -> Known:
    """Every verdict on two classes of hardware, nasty texts, an artefact, a fault, a re-run."""
    attempts = [
        tried("cpu", hardware="cpu", status="failed", artifacts=(Artifact("a b/<log>.txt", 12),)),
        tried("gpu", hardware="cuda", status="failed", worker_id="w2"),
        tried("again", hardware="cpu", worker_id="w2"),
        tried("lost", hardware="cpu", status="faulted", reason="worker_lost"),
    ]
    where: list[dict[str, Any]] = [
        {"task": "cpu", "worker_id": "w1"},
        {"task": "gpu", "worker_id": "w2"},
    ]
    observations = []
    for n, place in enumerate(where):
        base = 1000 * n
        cases: list[tuple[str, Outcome, dict[str, Any]]] = [
            ("tests/test_a.py::test_good", "passed", {"duration_s": 0.25, "line": 3}),
            ("tests/test_a.py::TestA::test_flaky[x::y]", "failed", {"message": "boom 17"}),
            ("tests/test_a.py::test_skip", "skipped", {"message": "not here", "phase": "setup"}),
            ("tests/test_b.py::test_known", "xfailed", {"message": "bug 7"}),
            ("tests/test_b.py::test_mended", "xpassed", {}),
            ("tests/test_b.py::test_sub", "failed", {"message": f"assert {NASTY}"}),
            ("tests/test_b.py::test_sub", "passed", {}),
            ("tests/test_c.py::test_bad", "failed", {"message": NASTY, "output": LONGREPR}),
            ("tests/test_c.py::test_fixture", "error", {"phase": "setup", "message": ILLEGAL}),
            ("tests/test_c.py::test_muted", "failed", {"message": "ValueError: late by 3 s"}),
            ("tests/test_broken.py", "error", {"phase": "collect", "message": "ImportError: x"}),
        ]
        observations += [
            seen(
                nodeid,
                outcome,
                ordinal=k,
                seq=base + k,
                output=more.pop("output", ILLEGAL),
                **place,
                **more,
            )
            if outcome in {"failed", "error"}
            else seen(nodeid, outcome, ordinal=k, seq=base + k, **place, **more)
            for k, (nodeid, outcome, more) in enumerate(cases, 1)
        ]
    again: dict[str, Any] = {"task": "again", "worker_id": "w2"}
    observations += [
        seen("tests/test_a.py::TestA::test_flaky[x::y]", "passed", seq=3000, **again),
        seen("tests/test_c.py::test_bad", "failed", seq=3001, ordinal=2, message="other", **again),
    ]
    parts = [
        Part("cpu", "tests 1/2", "failed", "assertion_failed", 1, hardware="cpu"),
        Part("gpu", "tests 2/2", "failed", "assertion_failed", 2, hardware="cuda"),
        Part("again", "re-run 1", "failed", "assertion_failed", 3, rerun=1),
        Part("lost", NASTY, "errored", "worker_lost", 4),
    ]
    planned = [Planned("tests/test_a.py::test_never", "cpu")]
    return Known(RUN, tuple(parts), tuple(attempts), tuple(observations), tuple(planned))


MUTED = KnownFlaky(
    (Muted("tests/test_c.py::test_muted", "slow disk", date(2026, 12, 31), "https://x.example/7"),)
)


def full_report() -> Report:
    """The report of a run in which everything happened."""
    return compose(everything(), flaky=MUTED)
