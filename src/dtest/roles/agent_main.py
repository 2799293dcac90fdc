"""Entry of the agent's process: reads its options, runs one agent or several simulated ones."""

import asyncio
import math
from dataclasses import replace
from typing import Annotated

from cyclopts import App, Parameter

import dtest
from dtest.agents.checkpoints import DEFAULT_CHECKPOINTS
from dtest.errors import UsageError
from dtest.roles.agent import (
    DRAIN_S_MAX,
    AgentOptions,
    SimulationOptions,
    serve_agent,
    serve_simulation,
)
from dtest.runtime.logs import set_up_logs
from dtest.settings import load_settings, parse_labels

app = App(
    name="dtest-agent",
    version=dtest.__version__,
    help="Run tasks of a dtest cell on this machine.",
    help_epilogue="Examples: `dtest-agent --nats nats://broker:4222` · "
    "`dtest-agent --simulate cuda:2,cpu:4`",
)

SIMULATED_KINDS = ("cpu", "cuda", "rocm", "mps", "qnn", "openvino", "tpu")
WORKERS_MAX = 1_000
CHECKPOINT_S_MIN = 0.05


@app.default
def run(  # noqa: PLR0913 - one option each
    *,
    name: str = "",
    nats: str | None = None,
    cell: str | None = None,
    slots: int | None = None,
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    drain_seconds: float = DRAIN_S_MAX,
    checkpoint_seconds: float = DEFAULT_CHECKPOINTS.look_every_s,
    simulate: str = "",
    simulate_seconds: float = 0.1,
) -> None:
    """Register this machine as a worker and run what is assigned to it.

    Parameters
    ----------
    name
        The worker's name; by default the host's.
    nats
        Where the NATS servers are.
    cell
        The cell to join.
    slots
        How many attempts run at once; by default one for each processor.
    label
        ``NAME=VALUE``, may be repeated.
    drain_seconds
        How long running attempts may still take after SIGTERM before they are handed back.
    checkpoint_seconds
        How often to look for new checkpoints, and how long a file must rest to count as complete.
    simulate
        Run simulated workers instead, as ``cuda:2,rocm:1,cpu:4``; always shown as simulated.
    simulate_seconds
        How long a task takes on a simulated worker unless the task says so.
    """
    set_up_logs(role="agent", json_lines=True)
    settings = load_settings({"nats_url": nats, "cell": cell})
    if simulate:
        options = SimulationOptions(
            parse_kinds(simulate), slots=slots or 4, seconds=simulate_seconds
        )
        asyncio.run(serve_simulation(settings, options))
        return
    declared: dict[str, object] = dict(settings.tables.get("agent", {}))
    if label:
        declared["labels"] = {**dict(declared.get("labels", {})), **parse_labels(label)}  # type: ignore[call-overload]
    if not CHECKPOINT_S_MIN <= checkpoint_seconds < math.inf:
        message = f"--checkpoint-seconds {checkpoint_seconds:g} is not at least {CHECKPOINT_S_MIN}"
        raise UsageError(message, hint="2 is a good value; less costs processor time")
    checkpoints = replace(DEFAULT_CHECKPOINTS, look_every_s=checkpoint_seconds)
    options_of_agent = AgentOptions(name, slots, declared, drain_seconds, checkpoints)
    asyncio.run(serve_agent(settings, options_of_agent))


def parse_kinds(text: str) -> tuple[tuple[str, int], ...]:
    """Read ``cuda:2,cpu``. Raises UsageError."""
    kinds: list[tuple[str, int]] = []
    for part in text.split(","):
        kind, _, count = part.strip().partition(":")
        if kind not in SIMULATED_KINDS:
            message = f"{kind!r} is no kind of hardware that can be simulated"
            raise UsageError(message, hint=f"known: {', '.join(SIMULATED_KINDS)}")
        if count and not (count.isdigit() and 1 <= int(count) <= WORKERS_MAX):
            message = f"{part!r}: the number of workers must be from 1 to {WORKERS_MAX}"
            raise UsageError(message, hint="as in `cuda:2,rocm:1,cpu:4`")
        kinds.append((kind, int(count or 1)))
    return tuple(kinds)


def main() -> None:
    """Run the agents that the arguments of the process ask for."""
    app()


if __name__ == "__main__":
    main()
