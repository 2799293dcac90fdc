"""``dtest-agent``: joins this machine to a cell."""

import sys

from dtest.cli.main import first_of, report
from dtest.errors import DtestError


def main() -> None:
    """Run the agent; ends the process with the documented exit code."""
    from dtest.roles.agent_main import app

    try:
        app()
    except DtestError as error:
        report(error)
        sys.exit(error.exit_code)
    except BaseExceptionGroup as group:
        first = first_of(group)
        if first is None:
            raise
        report(first)
        sys.exit(first.exit_code)
