"""Runs other test runners than pytest as lasting sessions: a process for each part of a suite.

What is run and what its results mean is in `dtest.runners`; here are processes and files.
"""

from typing import Final

RUNNER_MODULE: Final = "dtest.agents.runner_session.session"
"""Runs by ``-m`` in the agent's interpreter; takes units of tests from a file while that grows."""
