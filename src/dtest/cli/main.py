"""``dtest``: the list of commands, and what an error looks like to a person.

Loads no command's module before it is called, so that help and version stay quick.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn, TypeVar

from cyclopts import App, CycloptsError

import dtest
from dtest.errors import DtestError, UsageError
from dtest.runtime.garbage import collect_seldom, leave_quickly

INTERNAL = 3
INTERRUPTED = 130
SIGNALLED = 128

app = App(
    name="dtest",
    version=dtest.__version__,
    help="Run tests and benchmarks in parallel on machines of every kind; nothing gets lost.",
    help_epilogue="Exit codes: 0 success · 1 work ran and failed · 2 usage · 3 infrastructure · "
    "4 permission · 5 nothing selected · 6 timed out · 8 no worker can ever match · "
    "130 interrupted · 143 terminated",
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
        "login": ("stack", "Print a link that opens the cell in a browser."),
        "doctor": ("doctor", "Check this machine and the cell, and say how to mend them."),
        "submit": ("submit", "Submit task documents, or one command."),
        "ship": ("shipping", "Bring the files of a project to the cell."),
        "test": ("testing", "Run a pytest suite on the workers."),
        "requirements": ("requirements", "Propose which machines tests need, from their source."),
        "why": ("tasks", "Say why a task does not run now."),
        "stress": ("stress", "Measure this machine with simulated tasks."),
    },
    "run": {
        "ls": ("runs", "List runs."),
        "show": ("runs", "Show one run with its tasks."),
        "watch": ("runs", "Follow a run until it ends."),
        "cancel": ("runs", "Cancel every task of a run."),
    },
    "report": {
        "build": ("reports", "Write the report of a run."),
        "coverage": ("coverage", "Combine what a run's workers measured with coverage.py."),
    },
    "task": {
        "ls": ("tasks", "List tasks."),
        "show": ("tasks", "Show one task with its attempts and test cases."),
        "logs": ("tasks", "Print the output of an attempt."),
        "artifacts": ("tasks", "List the files that a task left, or bring them here."),
        "cancel": ("tasks", "Cancel a task."),
        "retry": ("tasks", "Run an ended task once more."),
    },
    "worker": {
        "ls": ("workers", "List workers."),
        "show": ("workers", "Show what a worker has and what runs there."),
        "drain": ("workers", "Let a worker take no new work."),
        "quarantine": ("workers", "Keep work away from a worker."),
        "reinstate": ("workers", "Let a worker take work again."),
    },
    "breaker": {"ls": ("breakers", "List the breakers of workers and of kinds of task.")},
    "policy": {
        "show": ("policy", "Show the policies in force."),
        "set": ("policy:choose", "Choose policies."),
    },
    "event": {
        "tail": ("events", "Print events as they come."),
        "publish": ("events", "Record events as a client."),
        "show": ("events", "Print one message of the journal."),
        "schema": ("events", "Print the JSON Schema of an event, or list the events."),
        "verify": ("events", "Check the whole journal from its events alone."),
        "replay": ("events", "Show the state as it was at a sequence number or time."),
    },
    "archive": {
        "write": ("archive", "Write the journal down as checksummed files."),
        "verify": ("archive", "Check an archive by itself, without a broker."),
    },
    "drill": {
        "ls": ("drill", "List the drills."),
        "run": ("drill", "Cause failures on a throw-away cell, and check what became of the work."),
        "replay": ("drill", "Rehearse a recovery on a copy of a journal."),
    },
    "db": {"query": ("db", "Run one SELECT over the read model.")},
    "cluster": {
        "up": ("cluster", "Start a cluster of NATS servers on this machine."),
        "status": ("cluster", "Show who is alive, who leads, whose replica lags."),
        "down": ("cluster", "Stop it."),
    },
    "config": {"view": ("config", "Show every setting with its origin.")},
    "server": {
        "scheduler": ("server", "Run a scheduler in the foreground."),
        "conductor": ("server", "Run a conductor of suites in the foreground."),
        "api": ("server", "Run the HTTP API with its projector in the foreground."),
        "migrate": ("server", "Create the cell's streams, or compare and mend them."),
        "mirror": ("second_region", "Keep a copy of another region's journal."),
        "promote": ("second_region", "Make that copy the journal."),
        "rebuild": ("server", "Make the read model anew from the journal."),
    },
}
_GROUP_HELP = {
    "run": "Runs: submissions of tasks that belong together.",
    "report": "Reports: what a run came to, for people and programs.",
    "drill": "Failures on purpose, on a throw-away cell.",
    "task": "Tasks.",
    "worker": "Workers.",
    "breaker": "Breakers: what gets no work for now.",
    "policy": "Policies of the cell.",
    "event": "Events of the journal.",
    "archive": "The journal as files that need no broker.",
    "db": "The read model.",
    "cluster": "NATS servers on this machine, for trials and tests.",
    "config": "Settings.",
    "server": "Single parts of a cell, for service managers and operators.",
}


E = TypeVar("E", bound=BaseException)


def _build() -> None:
    for group, verbs in _COMMANDS.items():
        target = App(name=group, help=_GROUP_HELP[group]) if group else app
        for verb, (module, text) in verbs.items():
            where = module if ":" in module else f"{module}:{verb}"
            target.command(f"dtest.cli.{where}", name=verb, help=text)
        if target is not app:
            app.command(target)


_build()


def main() -> None:
    """Run the command line; ends the process with the documented exit code."""
    ended(app)


def ended(called: App) -> NoReturn:
    """Run an application and end the process: every end has its exit code and its words."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    collect_seldom()
    leave_quickly()
    words = handed_on(sys.argv[1:])
    try:
        _begin(words)
        in_full(called, words)
        result = called(words, result_action="return_value", exit_on_error=False, print_error=False)
        sys.stdout.flush()
        code = result if isinstance(result, int) else 0
    except CycloptsError as error:
        code = report(_usage(error, called))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last boundary: whatever it is gets its words
        code = _failed(error)
    _end_untaken()
    sys.exit(code)


def _begin(words: list[str]) -> None:
    """Start what takes long and needs no more than these words, while the rest is loaded."""
    if words[:1] == ["test"]:
        from dtest.caller import warm_stack

        warm_stack.begin(words)


def _end_untaken() -> None:
    """End what was started and not wanted; other calls have not loaded the module."""
    module = sys.modules.get("dtest.caller.warm_stack")
    if module is not None:
        module.end_untaken()


def handed_on(words: Sequence[str]) -> list[str]:
    """Return the words of a call, those of ``test`` that stand behind ``--`` as its runner's."""
    if words[:1] != ["test"] or "--" not in words:
        return list(words)
    at = words.index("--")
    return [*words[:at], *(f"--runner-argument={word}" for word in words[at + 1 :])]


def in_full(called: App, words: Sequence[str]) -> App:
    """Return the command that the words address; its help is its own text, no line of a list."""
    found = called
    for word in words:
        if word.startswith("-") or word not in found:
            break
        found = found[word]
    if found.default_command is not None:
        found.help = None  # as where nothing was said: the docstring
    return found


def _terminated(number: int, _frame: object) -> NoReturn:
    """Unwind at SIGTERM and SIGHUP, so that what the call started is ended and removed."""
    sys.exit(SIGNALLED + number)


def _usage(error: CycloptsError, called: App) -> UsageError:
    words = " ".join((called.name[0], *(error.command_chain or ())))
    return UsageError(str(error), hint=f"`{words} --help`")


def _failed(error: Exception) -> int:
    found = first_of(error, DtestError)
    if found is not None:
        return report(found)
    if first_of(error, BrokenPipeError) is not None:  # the reader of our output left: its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    sys.excepthook(type(error), error, error.__traceback__)
    print("dtest: this is a bug in dtest; please report it with the lines above", file=sys.stderr)
    return INTERNAL


def first_of(error: BaseException, kind: type[E]) -> E | None:
    """Return the first error of a kind: the error itself, or one inside of groups."""
    return next((leaf for leaf in _leaves(error) if isinstance(leaf, kind)), None)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in error.exceptions:
        yield from _leaves(inner)


def report(error: DtestError) -> int:
    """Say what is wrong and the next step, as JSON if that was asked for; return the exit code."""
    if "--json" in sys.argv:
        import orjson

        body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        print(orjson.dumps(body).decode(), file=sys.stderr)
        return error.exit_code
    print(f"dtest: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  try: {error.hint}", file=sys.stderr)
    return error.exit_code
