"""``dtest policy``: show and choose the policies of the cell."""

from contextlib import suppress
from typing import Any

from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import DtestError, UsageError
from dtest.events.parameters import Numbers, Strategy
from dtest.events.policy import Ranking, Timeouts

DEFAULT = "default"
"""What a parameter is set to that is to be reset."""
NUMBER_MAX = 2**63 - 1
"""Largest number that a request can hold."""
EXAMPLE = "as breaker_threshold=5, or breaker_threshold=default"


def show(*, call: CallOptions = DEFAULTS) -> int:
    """Show the policies in force, and every parameter with where its value comes from.

    Example: `dtest policy show`
    """
    found = open_api(call.settings()).get("/api/policy")
    if call.json:
        output.as_json(found)
        return 0
    output.table([found], ("ranking", "strategy", "timeouts", "signatures_observed", "rules"))
    rows = [
        {"parameter": name, "value": value, "from": _origin(found, name)}
        for name, value in found["parameters"].items()
    ]
    output.table(rows, ("parameter", "value", "from"))
    return 0


def _origin(found: dict[str, Any], name: str) -> str:
    if name in found["chosen"] and found["rules"]:  # a term without recorded rules knows no choice
        return "set"
    return f"strategy {found['strategy']}" if name in found["changed_by_strategy"] else "term"


def choose(
    *parameters: str,
    ranking: Ranking | None = None,
    strategy: Strategy | None = None,
    timeouts: Timeouts | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Choose how workers are ranked, faults recovered from and runs limited; recorded as an event.

    Examples: `dtest policy set --strategy minimal` · `dtest policy set breaker_threshold=5` ·
    `dtest policy set breaker_threshold=default`

    Parameters
    ----------
    parameters
        Parameters and their values, as NAME=VALUE; the value `default` resets one. They are listed
        by `dtest policy show` and docs/parameters.md.
    ranking
        Which of several free workers takes a task.
    strategy
        How much is spent on recovery: progressive (the default), aggressive or minimal.
    timeouts
        What a task that states no time-out gets: none (declared, the default), or one that follows
        from how long other tasks of its signature took (observed).
    """
    if ranking is None and strategy is None and timeouts is None and not parameters:
        message = "no parameter is given, and none of --ranking, --strategy and --timeouts"
        raise UsageError(message, hint="dtest policy set --help")
    values, reset = _parsed(parameters)
    body: dict[str, Any] = {"ranking": ranking, "strategy": strategy, "timeouts": timeouts}
    body |= {"parameters": values, "reset": reset}
    api = open_api(call.settings())
    answer = api.post("/api/policy", body)
    with suppress(DtestError):  # it is recorded, whatever becomes of the wait until it is shown
        api.get("/api/policy", after=answer["seq"])
    if call.json:
        output.as_json(answer)
    else:
        output.say(f"recorded at {answer['seq']}")
    return 0


def _parsed(given: tuple[str, ...]) -> tuple[Numbers, list[str]]:
    """Return values to set and names to reset. Raises UsageError; names are the API's business."""
    values: Numbers = {}
    reset: list[str] = []
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            message = f"{text!r} sets no parameter"
            raise UsageError(message, hint=EXAMPLE)
        if name in values or name in reset:
            message = f"{name} is given twice"
            raise UsageError(message, hint="give it once")
        if value == DEFAULT:
            reset.append(name)
            continue
        try:
            values[name] = int(value) if value.lstrip("-").isdecimal() else float(value)
        except ValueError as error:
            message = f"{name}: {value!r} is no number"
            raise UsageError(message, hint=EXAMPLE) from error
        if not abs(values[name]) <= NUMBER_MAX:
            message = f"{name}: {value} is out of any range"
            raise UsageError(message, hint="docs/parameters.md has the limits")
    return values, reset
