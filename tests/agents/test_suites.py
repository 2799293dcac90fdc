"""Test tasks in a real cell: every case is an event, and each way to fail has its own reason."""

from pathlib import Path
from textwrap import dedent

import pytest

from dtest.events.attempt import AttemptFinished, TestcaseFinished
from dtest.events.reasons import Reason
from dtest.state.task import Status
from tests.agents.cell import RealCell
from tests.kit.agent import marked
from tests.kit.nats import eventually

EVERY_OUTCOME = """
    import pytest

    def test_passed(): print("said")
    def test_failed(): assert 1 == 2, "not equal"
    @pytest.mark.skip(reason="not today")
    def test_skipped(): pass
    @pytest.mark.xfail
    def test_xfailed(): assert False
    @pytest.mark.xfail
    def test_xpassed(): pass
    @pytest.fixture
    def broken(): raise OSError("no device")
    def test_error(broken): pass
"""


def suite(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(dedent(text))
    return tmp_path


async def ended(cell: RealCell, task: str) -> tuple[AttemptFinished, dict[str, str]]:
    """The end of a task, and the outcomes of its cases by name; each told once."""
    end = await cell.finished(task)
    cases = cell.facts(TestcaseFinished, task)
    assert [case.ordinal for case in cases] == list(range(1, len(cases) + 1))
    outcomes = {case.nodeid.rpartition("::")[2]: case.outcome for case in cases}
    assert len(outcomes) == len(cases)
    return end, dict(outcomes)


async def test_each_case_is_an_event(cell: RealCell, tmp_path: Path) -> None:
    task = await cell.test(suite(tmp_path, test_all=EVERY_OUTCOME))
    end, outcomes = await ended(cell, task)

    assert outcomes == {
        "test_passed": "passed",
        "test_failed": "failed",
        "test_skipped": "skipped",
        "test_xfailed": "xfailed",
        "test_xpassed": "xpassed",
        "test_error": "error",
    }
    assert (end.outcome, end.reason) == ("failed", Reason.ASSERTION_FAILED)
    assert end.detail == "2 tests did not pass"
    failed = next(c for c in cell.facts(TestcaseFinished, task) if c.outcome == "failed")
    assert (failed.nodeid, failed.phase) == ("test_all.py::test_failed", "call")
    assert "not equal" in failed.message
    assert "assert 1 == 2" in failed.output
    assert b"pytest" in await cell.output(task)


async def test_a_suite_that_passes_passes(cell: RealCell, tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.parametrize('n', range(300))\ndef test_n(n): pass\n"
    task = await cell.test(suite(tmp_path, test_many=text))
    end, outcomes = await ended(cell, task)

    assert (end.outcome, end.reason, len(outcomes)) == ("passed", None, 300)
    assert (await cell.terminal(task)).status is Status.PASSED


async def test_a_node_id_and_arguments_are_passed_on(cell: RealCell, tmp_path: Path) -> None:
    root = suite(tmp_path, test_all=EVERY_OUTCOME)
    task = await cell.test(
        root,
        "test_all.py::test_passed",
        "test_all.py::test_failed",
        config={"args": ["-k", "passed"]},
    )
    _, outcomes = await ended(cell, task)

    assert outcomes == {"test_passed": "passed"}


async def test_a_crash_names_its_test_and_the_rest_runs(cell: RealCell, tmp_path: Path) -> None:
    text = "import os\ndef test_a(): pass\ndef test_crash(): os.abort()\ndef test_b(): pass\n"
    task = await cell.test(suite(tmp_path, test_crash=text))
    end, outcomes = await ended(cell, task)

    assert outcomes == {"test_a": "passed", "test_crash": "error", "test_b": "passed"}
    assert (end.outcome, end.reason) == ("faulted", Reason.CRASH_SIGNAL)
    assert end.detail == "the test process crashed: test_crash.py::test_crash"


async def test_a_time_out_names_the_test_that_ran(cell: RealCell, tmp_path: Path) -> None:
    text = """
        import signal, subprocess, time
        def test_quick(): pass
        def test_hangs():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            time.sleep(600)
    """
    task = await cell.test(suite(tmp_path, test_slow=text), timeout_seconds=4.0, grace_seconds=0.2)
    end, outcomes = await ended(cell, task)

    assert outcomes == {"test_quick": "passed"}
    assert (end.outcome, end.reason) == ("faulted", Reason.RUN_TIMEOUT)
    assert end.detail == "while test_slow.py::test_hangs ran"
    assert marked(cell.directory) == []


async def test_cases_are_told_while_the_suite_runs(cell: RealCell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    text = f"""
        import pathlib, time
        def test_first(): pass
        def test_waits():
            while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)
    """
    task = await cell.test(suite(tmp_path, test_wait=text))
    await eventually(lambda: len(cell.facts(TestcaseFinished, task)) == 1, within_s=20)
    assert cell.facts(AttemptFinished, task) == []
    go.touch()
    _, outcomes = await ended(cell, task)

    assert list(outcomes) == ["test_first", "test_waits"]


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("", Reason.NO_TESTS, "no tests ran"),
        ("import no_such_module", Reason.COLLECTION_ERROR, "1 file could not be collected"),
        ("def test_(:", Reason.COLLECTION_ERROR, "1 file could not be collected"),
    ],
)
async def test_a_suite_that_cannot_be_judged_is_never_green_nor_red(
    cell: RealCell, tmp_path: Path, text: str, reason: Reason, detail: str
) -> None:
    task = await cell.test(suite(tmp_path, test_odd=text))
    end, _ = await ended(cell, task)

    assert (end.outcome, end.reason, end.detail) == ("faulted", reason, detail)
    assert (await cell.terminal(task)).status is Status.ERRORED


async def test_a_path_that_is_not_there_is_the_client_s_fault(
    cell: RealCell, tmp_path: Path
) -> None:
    task = await cell.test(suite(tmp_path), "test_gone.py")
    end, _ = await ended(cell, task)

    assert (end.outcome, end.reason) == ("faulted", Reason.MISSING_INPUT)
    assert b"test_gone.py" in await cell.output(task)


async def test_a_suite_s_directory_is_left_as_it_was(cell: RealCell, tmp_path: Path) -> None:
    root = suite(tmp_path, test_all=EVERY_OUTCOME)
    before = sorted(path.name for path in root.rglob("*"))
    await ended(cell, await cell.test(root))

    assert sorted(path.name for path in root.rglob("*")) == before


async def test_a_suite_is_free_to_interrupt_itself(cell: RealCell, tmp_path: Path) -> None:
    """An ignored SIGINT would be inherited from whoever starts it."""
    text = """
        import os, signal
        import pytest
        def test_interrupt():
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        def test_umask():
            mask = os.umask(0o022); os.umask(mask)
            assert mask == 0o022
    """
    end, outcomes = await ended(cell, await cell.test(suite(tmp_path, test_int=text)))

    assert (end.outcome, set(outcomes.values())) == ("passed", {"passed"})
