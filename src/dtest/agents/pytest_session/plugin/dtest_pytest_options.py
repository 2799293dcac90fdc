"""Options that are for a whole run, and what becomes of them where the run has several sessions.

Each session would write the whole file anew, or judge the whole by its part. Whoever starts the
sessions does these things for all of them, or says that they are not done. One list, for sessions
and for the call of pytest that hands its tests on. This imports nothing.
PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


class WholeRun(NamedTuple):
    """An option that is for the whole run."""

    dest: str
    """Its name in pytest's options."""
    option: str
    """As it is written."""
    instead: str
    """What to do for the whole run."""
    empty: Any = None
    """What it is set to in a session."""


FILES = (
    WholeRun("xmlpath", "--junitxml", "give --junit FILE to dtest"),
    WholeRun("htmlpath", "--html", "give --html FILE to dtest"),
    WholeRun("report_log", "--report-log", "ask for `dtest report build --format json`"),
    WholeRun("json_report", "--json-report", "ask for `dtest report build`", False),
    WholeRun("ctrf", "--ctrf", "give --ctrf FILE to dtest"),
    WholeRun("nunit_xmlpath", "--nunit-xml", "give --junit FILE to dtest"),
    WholeRun("md_report_output", "--md-report-output", "give --markdown FILE to dtest"),
    WholeRun("csv_path", "--csv", "ask for `dtest report build`"),
    WholeRun("resultlog", "--result-log", "ask for `dtest report build`"),
    WholeRun("pastebin", "--pastebin", "send a report of the whole run"),
    WholeRun("benchmark_json", "--benchmark-json", "benchmarks side by side disturb each other"),
    WholeRun("store_durations", "--store-durations", "dtest keeps durations by itself", False),
    WholeRun(
        "stepwise", "--stepwise", "the tests run side by side, in no order of their own", False
    ),
    WholeRun("lf", "--last-failed", "give --last-failed to dtest", False),
    WholeRun("failedfirst", "--failed-first", "give --failed-first to dtest", False),
    WholeRun("newfirst", "--new-first", "give --failed-first to dtest", False),
)
COVERAGE_FILE = "COVERAGE_FILE"
ARTIFACTS = "DTEST_ARTIFACT_DIR"


def for_the_whole(option: Any) -> list[str]:
    """Switch off what is for the whole run; say of each what to do instead.

    ``option`` is pytest's namespace of options, before any plugin has acted on it.
    """
    said = []
    for each in FILES:
        given = getattr(option, each.dest, None)
        if given in (None, False, ""):
            continue
        setattr(option, each.dest, each.empty)
        _unmade(given)
        said.append(f"{each.option} is for a whole run, and this one has sessions: {each.instead}")
    return said


def _unmade(given: Any) -> None:
    """Close a file that was opened while the options were read, and remove it if it is new."""
    name = getattr(given, "name", None)
    if not hasattr(given, "close") or not isinstance(name, str):
        return
    given.close()
    try:
        if os.path.getsize(name) == 0:
            os.remove(name)
    except OSError:
        return


def of_a_session(config: Any, worker: str) -> list[str]:
    """Give a session a file of its own where each may have one; say so."""
    said = []
    option = config.option
    log_file = getattr(option, "log_file", None)
    if not log_file and config.pluginmanager.hasplugin("logging"):
        log_file = config.getini("log_file")
    if log_file:
        option.log_file = f"{log_file}.{worker}"
        said.append(f"--log-file: each session writes its own, {log_file}.gw0 and so on")
    return said


def keep_coverage(known: Any) -> None:
    """Have what a session measures become an artefact of its own, before pytest-cov starts."""
    if getattr(known, "cov_source", None) and os.environ.get(ARTIFACTS):
        os.environ.setdefault(COVERAGE_FILE, os.path.join(os.environ[ARTIFACTS], ".coverage"))


def judge_no_coverage(plugin: Any, option: Any) -> list[str]:
    """Keep pytest-cov from judging or reporting the whole by this session's part; say so."""
    options = getattr(plugin, "options", option)
    asked = getattr(options, "cov_fail_under", None)
    options.cov_fail_under = 0
    options.cov_report = {}
    if hasattr(plugin, "_is_worker"):
        plugin._is_worker = lambda _session: False
    said = ["coverage: `dtest report coverage` combines what the sessions measured"]
    if asked:
        said.append(f"the coverage threshold of {asked:g} % was not judged: a session has a part")
    return said
