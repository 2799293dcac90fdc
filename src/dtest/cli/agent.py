"""``dtest-agent``: joins this machine to a cell."""

from dtest.cli.main import ended


def main() -> None:
    """Run the agent; ends the process with the documented exit code."""
    from dtest.roles.agent_main import app

    ended(app)
