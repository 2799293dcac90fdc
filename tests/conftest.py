"""How hard hypothesis tries, the loop of async tests, and who gets a second try."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Rules that several folders share speak by assert, too: to be said before anybody imports them.
pytest.register_assert_rewrite("tests.journal.conformance", "tests.journal.load")

# No deadline: a slow machine is no bug. Derandomised: a red run is red again.
settings.register_profile("default", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=200, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("DTEST_HYPOTHESIS_PROFILE", "default"))

PURE = ("architecture", "events", "recovery", "reports", "scheduling", "state", "suites")
"""Folders whose tests start nothing: there, what fails once is a bug."""
FLAKY_MAX = 5
"""So many tests of a run may need their second try; more is no bad luck but a bug (ADR 19)."""
FLAKY_LINES = 25
"""What is shown of each of their failures: the error stands at the end."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of real processes get a second try; the summary names each one that used it."""
    debugged = config.getoption("usepdb") or not config.pluginmanager.hasplugin("rerunfailures")
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder not in PURE and item.get_closest_marker("slow") is None and not debugged:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> object:
    """Fail the run when too many of its tests were flaky."""
    if len(_flaky(session.config)) > FLAKY_MAX and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the flaky tests, each with the end of its first failure."""
    flaky = _flaky(config)
    if flaky:
        terminalreporter.section(f"{len(flaky)} flaky, {FLAKY_MAX} may be (ADR 19)", yellow=True)
    for report in flaky:
        terminalreporter.section(f"FLAKY {report.nodeid}", sep="-")
        for line in report.longreprtext.splitlines()[-FLAKY_LINES:]:
            terminalreporter.write_line(line)


def _flaky(config: pytest.Config) -> list[pytest.TestReport]:
    reporter: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("rerun", []) if reporter is not None else []
