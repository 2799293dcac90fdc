"""``dtest policy``: show and choose the policies of the cell."""

from dtest.cli import output
from dtest.cli.api_client import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import UsageError
from dtest.events.policy import Ranking, Strategy, Timeouts


def show(*, call: CallOptions = DEFAULTS) -> int:
    """Show the policies in force, and every parameter of recovery."""
    found = open_api(call.settings()).get("/api/policy")
    if call.json:
        output.as_json(found)
        return 0
    output.table([found], ("ranking", "strategy", "timeouts", "signatures_observed"))
    rows = [{"parameter": name, "value": value} for name, value in found["recovery"].items()]
    output.table(rows, ("parameter", "value"))
    return 0


def choose(
    *,
    ranking: Ranking | None = None,
    strategy: Strategy | None = None,
    timeouts: Timeouts | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Choose how workers are ranked, faults recovered from and runs limited; recorded as an event.

    Example: `dtest policy set --strategy minimal`

    Parameters
    ----------
    ranking
        Which of several free workers takes a task.
    strategy
        How much is spent on recovery: progressive (the default), aggressive or minimal.
    timeouts
        What a task that states no time-out gets: none (declared, the default), or one that follows
        from how long other tasks of its signature took (observed).
    """
    if ranking is None and strategy is None and timeouts is None:
        message = "none of --ranking, --strategy and --timeouts is given"
        raise UsageError(message, hint="dtest policy set --help")
    body = {"ranking": ranking, "strategy": strategy, "timeouts": timeouts}
    answer = open_api(call.settings()).post("/api/policy", body)
    if call.json:
        output.as_json(answer)
    else:
        output.say(f"recorded at {answer['seq']}")
    return 0
