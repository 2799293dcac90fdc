"""A run of a suite is the cell's: whoever asked for it may go away, and every door leads to it."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from dtest.client import Client, parse_suite
from dtest.drills.suites import essence_of
from dtest.events.fields import ClientId, RunId
from dtest.events.suite import SuiteSubmitted
from dtest.projections.past import known_from
from dtest.reports.report import compose
from dtest.roles.session import session
from dtest.runtime.ids import IdSource
from dtest.settings import load_settings
from tests.cli.cell import CellUser
from tests.cli.command import Person, eventually
from tests.cli.conftest import Suite
from tests.cli.later import OPTIONS, is_the_same_later

GATED = """
import pathlib, time

def test_bad():
    assert False

def test_waits():
    pathlib.Path("waits").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
"""
MIXED = """
import pytest

@pytest.mark.parametrize("n", range(12))
def test_one(n):
    if n % 5 == 4:
        pytest.skip("as ever")
    assert n != 7

@pytest.mark.xfail
def test_expected():
    assert False

@pytest.fixture
def broken():
    raise RuntimeError("as ever")

def test_without(broken):
    pass
"""
STUBBORN = """
import pathlib, signal, time

def test_stays():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path("waits").touch()
    time.sleep(600)
"""


@pytest.fixture
def waiting(cell: CellUser, suite: Suite) -> Iterator[tuple[Person, Path]]:
    """Somebody at a suite whose last test waits for a file."""
    home = suite(test_gated=GATED)
    yield cell.at(home), home
    (home / "go").touch()


def latest(cell: Person) -> str:
    """The newest run."""
    return str(cell.here("run", "ls", "--limit", "1", "--json").lines[0]["run_id"])


def published(cell: CellUser, spec: SuiteSubmitted) -> str:
    """Write the fact into the journal beside the API; return the run."""

    async def publish() -> None:
        settings = load_settings({"state_dir": str(cell.state.parent)})
        async with session(settings, name="tests") as opened:
            client = Client(
                opened.journal,
                cell=opened.cell,
                client_id=ClientId("tests"),
                now=lambda: 1_700_000_000.0,
                new_id=opened.new_id,
            )
            await client.say([spec])

    asyncio.run(publish())
    return spec.run_id


def shown(cell: CellUser, run: str) -> None:
    """Wait until the API knows a run that was asked for beside it."""
    eventually(
        lambda: cell.here("run", "show", run, "--json").out != "", what="the run", within_s=30
    )


def essence(cell: CellUser, run: str) -> dict[str, Any]:
    """What the journal alone says of a run, without times, workers and attempts."""

    async def read() -> dict[str, Any]:
        settings = load_settings({"state_dir": str(cell.state.parent)})
        async with session(settings, name="tests") as opened:
            known, _ = await known_from(opened.journal, opened.cell, run)
            return essence_of(compose(known))

    return asyncio.run(read())


def test_a_caller_that_is_killed_leaves_a_run_that_ends_with_its_re_runs(
    cell: CellUser, waiting: tuple[Person, Path]
) -> None:
    someone, home = waiting
    with someone.started("test", "--reruns", "1", "--workers", "1") as call:
        eventually((home / "waits").exists, what="the test waits", within_s=60)
        call.kill()
        call.wait()
    run = latest(cell)
    (home / "go").touch()

    watched = cell.here("run", "watch", run, "--timeout", "60")

    assert (watched.code, watched.out) == (1, "1 failed, 1 passed\n")
    assert "2 planned, none without a result" in watched.err
    shown = cell.here("run", "show", run, "--json").json
    assert (shown["suite"]["round"], shown["suite"]["exit_code"]) == (1, 1)
    assert [task["status"] for task in shown["task_list"]] == ["failed", "failed"]


def test_a_run_that_nobody_waits_for_prints_its_name(cell: CellUser, suite: Suite) -> None:
    home = suite(test_mixed=MIXED)

    asked = cell.at(home).here("test", "--detach").good()
    run = asked.out.strip()
    watched = cell.here("run", "watch", run, "--json")

    assert watched.code == 1
    assert watched.json["run_id"] == run
    assert watched.json["counts"] == {
        "failed": 1,
        "error": 1,
        "passed": 9,
        "skipped": 2,
        "xfailed": 1,
    }
    assert watched.json["exit_code"] == 1
    assert cell.here("run", "watch", run).out == watched_line(watched.json["counts"])


def watched_line(counts: dict[str, int]) -> str:
    order = ("failed", "error", "not_proven", "flaky", "passed", "skipped", "xfailed", "xpassed")
    return ", ".join(f"{counts[name]} {name}" for name in order if name in counts) + "\n"


def test_what_only_a_caller_that_stays_can_do_is_refused(person: Person, suite: Suite) -> None:
    home = suite(test_mixed=MIXED)

    alone = person.at(home).here("test", "--detach")

    assert (alone.code, "none is running" in alone.err) == (2, True)


def test_a_report_file_is_no_matter_of_a_call_that_leaves(cell: CellUser, suite: Suite) -> None:
    home = suite(test_mixed=MIXED)

    ended = cell.at(home).here("test", "--detach", "--junit", "r.xml")

    assert (ended.code, "dtest report build" in ended.err) == (2, True)


def test_a_second_interrupt_leaves_at_once_and_the_run_is_cancelled_all_the_same(
    cell: CellUser, suite: Suite
) -> None:
    home = suite(test_stays=STUBBORN)
    with cell.at(home).started("test", "--workers", "1") as call:
        eventually((home / "waits").exists, what="the test waits", within_s=60)
        call.send_signal(signal.SIGINT)

        def cancelling() -> bool:
            sql = "SELECT count(*) AS n FROM events WHERE type = 'run.cancel_requested'"
            found = cell.here("db", "query", f"{sql} AND entity = '{latest(cell)}'", "--json")
            return bool(found.lines[0]["n"])

        eventually(cancelling, what="the run is being cancelled", within_s=30)
        call.send_signal(signal.SIGINT)
        call.wait(timeout=10)

    assert call.returncode == 130
    ended = cell.here("run", "watch", "@last", "--timeout", "60")
    assert (ended.code, ended.out) == (130, "1 not proven\n")


def test_every_door_leads_to_the_same_report(cell: CellUser, suite: Suite) -> None:
    home = suite(test_mixed=MIXED)
    someone = cell.at(home)
    document = {"name": "suite", "cwd": str(home), "python": sys.executable, "reruns": 1}

    def by_command() -> str:
        assert someone.here("test", "--reruns", "1").code == 1
        return latest(cell)

    def by_pytest() -> str:
        words = ("-m", "pytest", "-q", "-p", "dtest.pytest_plugin.entry", "--dtest")
        ended = someone.dtest(*words, "--dtest-reruns", "1", program=sys.executable)
        assert ended.code == 1, ended.err
        return latest(cell)

    def by_http() -> str:
        told = json.loads((cell.state / "stack.json").read_text())
        answer = httpx.post(
            f"{told['api_url']}/api/suites",
            headers={"Authorization": f"Bearer {told['token']}"},
            json=document,
            trust_env=False,
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run_id"])

    def by_curl() -> str:
        told = json.loads((cell.state / "stack.json").read_text())
        sent = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--fail-with-body"),
                *("--header", f"Authorization: Bearer {told['token']}"),
                *("--json", json.dumps(document), f"{told['api_url']}/api/suites"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert sent.returncode == 0, sent.stdout + sent.stderr
        return str(json.loads(sent.stdout)["run_id"])

    doors: list[Callable[[], str]] = [
        *(by_command, by_pytest, by_http, *([by_curl] if shutil.which("curl") else [])),
        lambda: published(cell, parse_suite(document, run_id=RunId(IdSource()()))),
    ]
    reports = []
    for door in doors:
        run = door()
        shown(cell, run)
        assert cell.here("run", "watch", run, "--timeout", "60").code == 1
        reports.append(essence(cell, run))

    assert all(report == reports[0] for report in reports)
    assert reports[0]["counts"] == {
        "failed": 1,
        "error": 1,
        "passed": 9,
        "skipped": 2,
        "xfailed": 1,
    }


def test_suites_run_beside_each_other(cell: CellUser, suite: Suite) -> None:
    homes = [suite(f"suite-{n}", test_mixed=MIXED) for n in range(3)]
    words = [(), (), ("--on", "cpu")]

    with ExitStack() as calls:
        started = [
            calls.enter_context(cell.at(home).started("test", "--json", *more))
            for home, more in zip(homes, words, strict=True)
        ]
        ended = [call.communicate(timeout=120) for call in started]

    told = [
        {
            case["nodeid"]: (case["outcome"], case["message"])
            for case in json.loads(out)["testcases"]
        }
        for out, _ in ended
    ]
    assert told[0] == told[1] == told[2]
    assert len(told[0]) == 14, ended[0][1]


def test_the_report_later_is_that_at_the_end(cell: CellUser, suite: Suite, tmp_path: Path) -> None:
    entry = 'test = "test_mixed.py::test_one[7]"\nreason = "known"\nexpires = 2099-01-01\n'
    home = suite(test_mixed=MIXED)
    (home / "dtest-known-flaky.toml").write_text(f"[[flaky]]\n{entry}")

    assert cell.at(home).here("test", "--reruns", "1", *OPTIONS).code == 1

    is_the_same_later(cell, home, latest(cell), tmp_path / "archive")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"on": "cuda | cuda"}, "twice"),
        ({"rules": [{"match": "a.py", "hardwear": "cuda"}]}, "hardwear"),
        ({"cwd": "", "python": "x"}, "cwd"),
        ({"reruns": 11}, "reruns"),
        ({"sessions": 0}, "sessions"),
        ({"nobody": 1}, "unknown field 'nobody'"),
        ({"selection": {"nobody": 1}}, "unknown field 'nobody'"),
        ({"python": "p", "environment": {"requirements": ["x"]}}, "interpreter"),
    ],
)
def test_a_document_that_makes_no_sense_is_refused(
    cell: CellUser, document: dict[str, Any], said: str
) -> None:
    told = json.loads((cell.state / "stack.json").read_text())
    answer = httpx.post(
        f"{told['api_url']}/api/suites",
        headers={"Authorization": f"Bearer {told['token']}"},
        json={"cwd": "/srv/suite", **document},
        trust_env=False,
    )

    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]["message"]


def test_a_document_that_nobody_checked_ends_its_run_and_says_why(cell: CellUser) -> None:
    wrong = SuiteSubmitted(RunId(IdSource()()), on="cuda & | nonsense", cwd="/srv/suite")
    run = published(cell, wrong)
    shown(cell, run)
    ended = cell.here("run", "watch", run, "--timeout", "30")

    assert ended.code == 2
    assert "--on" in ended.err
