"""``dtest policy``: show and choose the policies of the cell."""

from dtest.cli import output
from dtest.cli.api_client import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import UsageError
from dtest.events.policy import Ranking, Strategy


def show(*, call: CallOptions = DEFAULTS) -> int:
    """Show the ranking and the strategy in force, and every parameter of recovery."""
    found = open_api(call.settings()).get("/api/policy")
    if call.json:
        output.as_json(found)
        return 0
    output.table([found], ("ranking", "strategy"))
    rows = [{"parameter": name, "value": value} for name, value in found["recovery"].items()]
    output.table(rows, ("parameter", "value"))
    return 0


def choose(
    *,
    ranking: Ranking | None = None,
    strategy: Strategy | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Choose how workers are ranked, and how faults are recovered from; recorded as an event.

    Example: `dtest policy set --strategy minimal`

    Parameters
    ----------
    ranking
        Which of several free workers takes a task.
    strategy
        How much is spent on recovery: progressive (the default), aggressive or minimal.
    """
    if ranking is None and strategy is None:
        message = "neither --ranking nor --strategy is given"
        raise UsageError(message, hint="dtest policy set --help")
    body = {"ranking": ranking, "strategy": strategy}
    answer = open_api(call.settings()).post("/api/policy", body)
    if call.json:
        output.as_json(answer)
    else:
        output.say(f"recorded at {answer['seq']}")
    return 0
