"""``dtest``: the list of commands, and what an error looks like to a person.

Loads no command's module before it is called, so that help and version stay quick.
"""

import sys

from cyclopts import App

import dtest
from dtest.errors import DtestError

INTERRUPTED = 130

app = App(
    name="dtest",
    version=dtest.__version__,
    help="Run tests and benchmarks in parallel on machines of every kind; nothing gets lost.",
    help_epilogue="Exit codes: 0 success · 1 work ran and failed · 2 usage · 3 infrastructure · "
    "4 permission · 5 nothing selected · 6 timed out · 8 no worker can ever match",
)
app.command("dtest.cli.demo:demo")
app.command("dtest.cli.stack:up")
app.command("dtest.cli.stack:down")
app.command("dtest.cli.stack:status")
app.command("dtest.cli.doctor:doctor")
app.command("dtest.cli.submit:submit")
app.command("dtest.cli.testing:test")
app.command("dtest.cli.tasks:why")
app.command("dtest.cli.stress:stress")

_GROUPS = {
    "run": ("Runs.", "dtest.cli.runs", ("ls", "show", "watch", "cancel")),
    "task": ("Tasks.", "dtest.cli.tasks", ("ls", "show", "logs", "cancel", "retry")),
    "worker": ("Workers.", "dtest.cli.workers", ("ls", "show", "drain")),
    "event": (
        "Events of the journal.",
        "dtest.cli.events",
        ("tail", "publish", "show", "schema", "verify", "replay"),
    ),
    "db": ("The read model.", "dtest.cli.db", ("query",)),
    "config": ("Settings.", "dtest.cli.config", ("view",)),
    "server": (
        "Single parts of a cell, for service managers.",
        "dtest.cli.server",
        ("scheduler", "api", "migrate", "rebuild"),
    ),
}
for _name, (_help, _module, _verbs) in _GROUPS.items():
    _group = App(name=_name, help=_help)
    for _verb in _verbs:
        _group.command(f"{_module}:{_verb}")
    app.command(_group)


def main() -> None:
    """Run the command line; ends the process with the documented exit code."""
    try:
        result = app(result_action="return_value")
    except DtestError as error:
        report(error)
        sys.exit(error.exit_code)
    except BaseExceptionGroup as group:
        first = first_of(group)
        if first is None:
            raise
        report(first)
        sys.exit(first.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; that is its right
        sys.exit(0)
    sys.exit(result if isinstance(result, int) else 0)


def first_of(group: BaseExceptionGroup[BaseException]) -> DtestError | None:
    """Return dtest's own error from inside task groups, if there is one."""
    for inner in group.exceptions:
        if isinstance(inner, DtestError):
            return inner
        if isinstance(inner, BaseExceptionGroup) and (found := first_of(inner)) is not None:
            return found
    return None


def report(error: DtestError) -> None:
    """Say what is wrong and the next step; as JSON where the call asked for JSON."""
    if "--json" in sys.argv:
        import orjson

        body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        print(orjson.dumps(body).decode(), file=sys.stderr)
        return
    print(f"dtest: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  try: {error.hint}", file=sys.stderr)
