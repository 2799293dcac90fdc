"""The plug-in in every version of pytest that it is made for: as plain pytest has it."""

import json
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from tests.cli.command import Person
from tests.foreign.conftest import Environment

VERSIONS = ("7.0", "7.4", "8.0", "8.4", "9.0", "9.1", "9.2")
FILES = {
    "test_all.py": """
        import pytest

        def test_passes(record_property):
            record_property("requirement", "R-1")

        def test_compares():
            assert {"a": [1, 2], "b": 3} == {"a": [1, 3], "b": 3}

        def test_says():
            assert 1 == 2, "one is not two"

        def test_raises():
            raise KeyError("nobody")

        @pytest.fixture
        def broken():
            raise OSError("no lamp")

        def test_setup(broken):
            pass

        @pytest.fixture
        def rude():
            yield
            raise OSError("cannot end")

        def test_teardown(rude):
            pass

        @pytest.mark.skip(reason="not now")
        def test_skips():
            pass

        @pytest.mark.xfail(reason="bug 7")
        def test_xfails():
            assert False

        @pytest.mark.xfail
        def test_xpasses():
            pass

        @pytest.mark.parametrize("text", ["a::b", "c d", "[e]"])
        def test_names(text):
            assert text != "c d"

        class TestKind:
            @pytest.fixture(scope="class")
            def wide(self):
                return []

            def test_one(self, wide):
                assert wide.append(1) is None

            def test_two(self, wide):
                assert len(wide) < 2
    """,
    "test_unittest.py": """
        import unittest

        class TestOld(unittest.TestCase):
            def test_fails(self):
                self.assertEqual(1, 2)

            @unittest.skip("later")
            def test_skips(self):
                pass
    """,
    "sub/test_more.py": """
        def test_terminal(request):
            terminal = request.config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line("-> here")

        def test_all_are_seen(request):
            assert len(request.session.items) == 19
    """,
    "sub/conftest.py": """
        def pytest_itemcollected(item):
            item.add_marker("seen")
    """,
    "test_broken.py": "import a_module_that_is_not_there\n",
    "pytest.ini": "[pytest]\nmarkers = seen\naddopts = --continue-on-collection-errors\n",
}
PLUGIN = """
import json, os

seen = []

def one_line(report):
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash is not None else "").splitlines()[:1]

def pytest_collectreport(report):
    if report.failed:
        seen.append([report.nodeid, "error", ""])

def pytest_runtest_logreport(report):
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if outcome == "skipped" else "xpassed"
    elif outcome == "failed" and report.when != "call":
        outcome = "error"
    if report.when == "call" or outcome != "passed":
        seen[:] = [each for each in seen if each[0] != report.nodeid]
        seen.append([report.nodeid, outcome, "".join(one_line(report)) if report.failed else ""])

def pytest_sessionfinish():
    with open(os.environ["SEEN"], "w") as file:
        json.dump(seen, file)
"""


def plain(python: str, root: Path, report: Path) -> list[list[str]]:
    """What pytest itself says: id, outcome and message of each."""
    (report.parent / "seen.py").write_text(PLUGIN)
    command = [python, "-m", "pytest", "-q", "-p", "seen", "-p", "no:cacheprovider"]
    env = {"PYTHONPATH": str(report.parent), "SEEN": str(report), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, cwd=root, env=env, capture_output=True, check=False)
    return sorted(json.loads(report.read_text()))


@pytest.mark.parametrize("version", VERSIONS)
def test_outcomes_messages_and_ids_are_those_of_plain_pytest(
    person: Person, made: Environment, tmp_path: Path, version: str
) -> None:
    python = made(f"pytest-{version}", f"pytest=={version}.*")
    for name, text in FILES.items():
        path = person.cwd / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))
    expected = plain(python, person.cwd, tmp_path / "seen.json")

    ended = person.dtest("test", "--workers", "2", "--python", python, "--json")

    found = {each["nodeid"]: each for each in ended.json["testcases"]}
    assert sorted((name, each["outcome"]) for name, each in found.items()) == [
        (name, outcome) for name, outcome, _ in expected
    ]
    for name, _, message in expected:
        if message:
            told = found[name]["message"].removeprefix("call passed; teardown: ")
            assert told == message
    assert "assert {'a': [1, 2], 'b': 3} ==" in found["test_all.py::test_compares"]["message"]
    assert ended.code == 1
