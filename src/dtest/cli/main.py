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
_COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "": {
        "demo": (
            "demo",
            "See it all on this machine: a small cell, a run that goes wrong, a check.",
        ),
        "up": ("stack", "Start a cell on this machine."),
        "down": ("stack", "Stop it."),
        "status": ("stack", "Show leadership, workers, tasks and positions."),
        "doctor": ("doctor", "Check this machine and the cell, and say how to mend them."),
        "submit": ("submit", "Submit task documents."),
        "test": ("testing", "Run a pytest suite on the workers."),
        "why": ("tasks", "Say why a task does not run now."),
        "stress": ("stress", "Measure this machine with simulated tasks."),
    },
    "run": {
        "ls": ("runs", "List runs."),
        "show": ("runs", "Show one run with its tasks."),
        "watch": ("runs", "Follow a run until it ends."),
        "cancel": ("runs", "Cancel every task of a run."),
    },
    "task": {
        "ls": ("tasks", "List tasks."),
        "show": ("tasks", "Show one task with its attempts and test cases."),
        "logs": ("tasks", "Print the output of an attempt."),
        "cancel": ("tasks", "Cancel a task."),
        "retry": ("tasks", "Run an ended task once more."),
    },
    "worker": {
        "ls": ("workers", "List workers."),
        "show": ("workers", "Show what a worker has and what runs there."),
        "drain": ("workers", "Let a worker take no new work."),
    },
    "event": {
        "tail": ("events", "Print events as they come."),
        "publish": ("events", "Record events as a client."),
        "show": ("events", "Print one message of the journal."),
        "schema": ("events", "Print the JSON Schema of an event, or list the events."),
        "verify": ("events", "Check the whole journal from its events alone."),
        "replay": ("events", "Show the state as it was at a sequence number or time."),
    },
    "db": {"query": ("db", "Run one SELECT over the read model.")},
    "config": {"view": ("config", "Show every setting with its origin.")},
    "server": {
        "scheduler": ("server", "Run a scheduler in the foreground."),
        "api": ("server", "Run the HTTP API with its projector in the foreground."),
        "migrate": ("server", "Create the cell's streams."),
        "rebuild": ("server", "Make the read model anew from the journal."),
    },
}
_GROUP_HELP = {
    "run": "Runs: submissions of tasks that belong together.",
    "task": "Tasks.",
    "worker": "Workers.",
    "event": "Events of the journal.",
    "db": "The read model.",
    "config": "Settings.",
    "server": "Single parts of a cell, for service managers and operators.",
}


def _build() -> None:
    for group, verbs in _COMMANDS.items():
        target = App(name=group, help=_GROUP_HELP[group]) if group else app
        for verb, (module, text) in verbs.items():
            target.command(f"dtest.cli.{module}:{verb}", name=verb, help=text)
        if target is not app:
            app.command(target)


_build()


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
