"""Someone whose cell is up, and the documents of small tasks."""

import json
from typing import Any

from tests.cli.command import Ended, Person


class CellUser(Person):
    """A person whose cell is up: one real agent, one simulated CUDA worker."""

    def submit(self, *tasks: dict[str, Any], options: tuple[str, ...] = ("--wait",)) -> Ended:
        """Submit documents."""
        return self.here("submit", "-", *options, stdin=json.dumps(list(tasks)))

    def run_of(self, *tasks: dict[str, Any]) -> str:
        """Submit documents and return the run without waiting."""
        return str(self.submit(*tasks, options=("--json",)).good().lines[0]["run_id"])


def command(line: str, **more: Any) -> dict[str, Any]:
    """A task that a real worker runs by the shell."""
    return {"type": "command", "config": {"command": line}, **more}


def simulated(seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    """A task that the simulated CUDA worker takes."""
    config = {"command": ["train"], "simulate": {"seconds": seconds}}
    needs = {"hardware": ["cuda"]}
    return {"type": "command", "config": config, "requirements": needs, **more}


def impossible(**more: Any) -> dict[str, Any]:
    """A task for hardware that nobody has."""
    return command("true", requirements={"hardware": ["rocm"]}, **more)
