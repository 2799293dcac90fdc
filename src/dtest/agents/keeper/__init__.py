"""The keeper: a small process of its own that starts attempts and outlives the agent.

``process`` runs as a script with the standard library only; ``client`` is the agent's side.
"""

from pathlib import Path

KEEPER_SCRIPT = str(Path(__file__).with_name("process.py"))
