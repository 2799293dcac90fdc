"""What every pytest loads where dtest is installed: the options, the mark, and nothing else.

It imports nothing of dtest until ``--dtest`` is given. In the sessions that dtest itself starts the
options are known, since settings may hold them, and do nothing. PYTEST_DONT_REWRITE: no assertion.
"""

import warnings

import pytest

IN_A_SESSION = "dtest_pytest_cases_recorder"
"""A plugin that stands in the sessions of workers alone."""
LISTING = (
    *("collectonly", "showfixtures", "show_fixtures_per_test", "markers"),
    *("help", "version", "cacheshow"),
)
"""Options that run no test: what they show is to be had here."""
MARK = "dtest(**needs): what a test asks of the machine that it runs on, for dtest"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all with one prefix."""
    group = parser.getgroup("dtest", "run the tests in a cell (dtest)")
    group.addoption(
        "--dtest", action="store_true", help="run the tests in the running cell, or in one made now"
    )
    group.addoption("--dtest-workers", type=int, metavar="N", help="how many test sessions run")
    group.addoption(
        "--dtest-python", metavar="PATH", help="interpreter that runs the tests, on each worker"
    )
    group.addoption(
        "--dtest-environment", metavar="JSON", help="recipe of that interpreter's environment"
    )
    group.addoption(
        "--dtest-ship",
        action="store_true",
        default=None,
        help="bring the files of this directory to the workers",
    )
    group.addoption(
        "--dtest-no-ship",
        dest="dtest_ship",
        action="store_false",
        default=None,
        help="all workers see the files of this directory",
    )
    group.addoption(
        "--dtest-reruns", type=int, default=0, metavar="N", help="run what failed again so often"
    )
    group.addoption("--dtest-timeout", type=float, metavar="S", help="longest wait for the whole")
    group.addoption("--dtest-test-timeout", type=float, metavar="S", help="longest time of a test")
    group.addoption("--dtest-memory-limit", type=float, metavar="GB", help="of a test session")
    group.addoption("--dtest-known-flaky", metavar="FILE", help="list of known flaky tests")
    group.addoption(
        "--dtest-keep",
        type=float,
        metavar="S",
        help="let a cell that is made for this call stay so long for the next one",
    )
    group.addoption("--dtest-cell", metavar="NAME", help="name of the cell")
    group.addoption("--dtest-api", metavar="URL", help="where the cell's HTTP API is")
    group.addoption("--dtest-state-dir", metavar="DIR", help="where local stacks keep their state")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and what runs the tests elsewhere if that is asked for."""
    config.addinivalue_line("markers", MARK)
    if not config.getoption("dtest") or config.pluginmanager.has_plugin(IN_A_SESSION):
        return
    if any(config.getoption(name, False) for name in LISTING):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what dtest loads is no matter of the suite
        from dtest.pytest_plugin.remote import activate  # noqa: PLC0415 - dear, for this call only

    activate(config)
