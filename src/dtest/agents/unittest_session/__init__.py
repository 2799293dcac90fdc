"""Runs unittest in a foreign interpreter, as a lasting session that is fed from a queue."""

from typing import Final

UNITTEST_MODULE: Final = "dtest.agents.unittest_session.session"
"""Runs by ``-m`` in the agent's interpreter."""
