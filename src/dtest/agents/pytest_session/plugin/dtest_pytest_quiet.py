"""What suites rely on in a session that runs beside others: a name, a terminal, a directory.

The name is the one that suites already read, that of a worker of pytest-xdist. The terminal
reporter is there and says nothing by itself: reports go to the agent, and what plug-ins would
write at the end they would write for a part. PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, TypedDict, cast

import pytest
from _pytest.terminal import TerminalReporter  # the class that plug-ins get, with all its methods

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


ALONE = frozenset({"rerunfailures"})
"""Plug-ins that rely on a main process of xdist as soon as a session has the name of a worker."""


class Worker(TypedDict):
    """Who this session is among those of its run."""

    id: str  # as gw0
    count: int  # how many sessions the run has
    run: str  # the same in all sessions of the run
    base: str  # an existing directory of this run alone
    start: int  # how often pytest was started in this session before


def introduce(config: pytest.Config, worker: Worker) -> None:
    """Give the session its name, where suites and plug-ins look for it."""
    given: Any = config
    given.workerinput = {
        "workerid": worker["id"],
        "workercount": worker["count"],
        "testrunuid": worker["run"],
        "mainargv": ["dtest"],
        # pytest-randomly: one seed for all sessions of a run.
        "randomly_seed": int(worker["run"].encode().hex()[-7:], 16),
        "cov_master_host": socket.gethostname(),
        "cov_master_topdir": str(config.rootpath),
        "cov_master_rsync_roots": [],
    }
    given.workeroutput = {}
    for implementation in config.hook.pytest_configure.get_hookimpls():
        if implementation.plugin_name in ALONE:
            given = cast("Any", implementation)
            given.function = _alone(implementation.function)


def _alone(configure: Any) -> Any:
    """Have a plug-in configure itself as in a session without others.

    In a worker of xdist it would ask the main process for what only that one gives.
    """

    def configured(config: Any) -> None:
        given = vars(config).pop("workerinput", None)
        try:
            configure(config)
        finally:
            if given is not None:
                config.workerinput = given

    return configured


def give_directory(config: pytest.Config, worker: Worker) -> None:
    """Have temporary directories lie below one of the run, as with xdist."""
    asked = getattr(config.option, "basetemp", None)
    name = f"popen-{worker['id']}" + (f"-{worker['start']}" if worker["start"] else "")
    base = Path(worker["base"])
    if asked:
        base = Path(config.invocation_params.dir, asked)
        base.mkdir(parents=True, exist_ok=True)
    config.option.basetemp = str(base / name)


class Quiet(TerminalReporter):  # type: ignore[misc] # final, but no class of its own will do
    """A terminal reporter that only counts, and writes what others tell it to."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count, as conftest files may ask for the sums."""
        if report.passed and report.when != "call" and not hasattr(report, "wasxfail"):
            self.stats.setdefault("", []).append(report)  # as pytest itself has it: three a test
            return
        category, _, _ = self.config.hook.pytest_report_teststatus(
            report=report, config=self.config
        )
        self.stats.setdefault(category, []).append(report)

    def pytest_internalerror(self, excrepr: Any) -> bool:
        """Write where it came from into the log of the session."""
        for line in str(excrepr).split("\n"):
            self.write_line(f"INTERNALERROR> {line}")
        return True


for _name in dir(TerminalReporter):
    if _name.startswith("pytest_") and _name not in vars(Quiet):
        setattr(Quiet, _name, None)  # what is no function is no hook


def silence(config: pytest.Config) -> None:
    """Put the quiet reporter in the place of the other one."""
    plugins = config.pluginmanager
    before = plugins.get_plugin("terminalreporter")
    if before is None:
        return
    plugins.unregister(before)
    plugins.register(Quiet(config), "terminalreporter")
