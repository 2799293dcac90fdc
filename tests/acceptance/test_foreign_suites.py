"""Real suites that know nothing of dtest: the same tests with the same outcomes as plain pytest."""

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from junitparser import JUnitXml

from tests.cli.command import QUICK, Person

pytestmark = pytest.mark.acceptance

SUITES = {
    "toolz": ("1.2.0", {"passed": 192, "skipped": 1}),
    "sqlparse": ("0.6.1", {"passed": 537, "xfailed": 2, "xpassed": 1}),
}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


def source_of(name: str, version: str, downloads: Path) -> Path:
    """Fetch a source distribution and unpack it; a failure is a failure, never a skip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", name, "--dest", str(downloads)]
    done = subprocess.run(
        [*command, f"{name}=={version}"], capture_output=True, text=True, check=False
    )
    archives = list(downloads.glob(f"{name}-{version}.tar.gz"))
    assert archives, f"pip could not fetch {name} {version}:\n{done.stdout}{done.stderr}"
    with tarfile.open(archives[0]) as archive:
        archive.extractall(downloads, filter="data")
    return downloads / f"{name}-{version}"


def plain(root: Path, report: Path) -> Counter[tuple[str, str]]:
    """Run pytest itself, by its junit report and its own summary of outcomes."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "outcomes"]
    (report.parent / "outcomes.py").write_text(PLUGIN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=root,
        env={
            "PATH": os.defpath,
            "PYTHONPATH": str(report.parent),
            "OUTCOMES": str(report),
            **QUICK,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return Counter((nodeid, outcome) for nodeid, outcome in json.loads(report.read_text()))


PLUGIN = """
import json, os

seen = []

def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome == "skipped":
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if outcome == "skipped" else "xpassed"
        seen.append((report.nodeid, outcome))

def pytest_sessionfinish(session):
    with open(os.environ["OUTCOMES"], "w") as file:
        json.dump(seen, file)
"""


@pytest.mark.parametrize("name", SUITES)
def test_a_foreign_suite_gives_the_verdicts_of_plain_pytest(
    name: str, downloads: Path, tmp_path: Path
) -> None:
    version, counts = SUITES[name]
    root = source_of(name, version, downloads)
    expected = plain(root, tmp_path / "outcomes.json")

    person = Person(tmp_path / "home", root)
    found = person.dtest("test", "--workers", "2", "--json", "--junit", "report.xml").good().json

    assert found["counts"] == counts
    assert Counter((case["nodeid"], case["outcome"]) for case in found["testcases"]) == expected
    assert found["faults"] == []
    report = JUnitXml.fromfile(str(root / "report.xml"))
    skipped = counts.get("skipped", 0) + counts.get("xfailed", 0)
    assert (report.tests, report.skipped) == (sum(counts.values()), skipped)
    assert report.failures == report.errors == 0
    person.nothing_is_left()
