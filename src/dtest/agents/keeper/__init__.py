"""The keeper: a small process of its own that starts attempts and outlives the agent.

``process``, ``descendants`` and ``notes`` need the standard library only; ``client`` is the
agent's side.
"""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).parents[3])
_START = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    " from dtest.agents.keeper.process import main; main()"
)


def keeper_command(directory: Path) -> list[str]:
    """Return what to run: without site-packages, which take long to find and are not needed."""
    return [sys.executable, "-I", "-S", "-c", _START, _ROOT, str(directory)]
