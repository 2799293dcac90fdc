"""Which words of a call of pytest go to the sessions, which stay here, and which are refused. Pure.

Words stay here that say how results are shown, kept or counted: there is one such place. All others
go to the sessions, also those of plugins that are not known here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dtest.agents.pytest_session.options import whole_run_options

MANY = 1_000_000


class Arity(NamedTuple):
    """How many words of its own an option takes."""

    least: int
    most: int


NO_WORD = Arity(0, 0)
ONE_WORD = Arity(1, 1)


class Token(NamedTuple):
    """An option with its words, or a path."""

    name: str
    """The option as it was written, without a value; empty for a path."""
    words: tuple[str, ...]


class Refusal(NamedTuple):
    """Why an option makes no sense where the tests run elsewhere."""

    option: str
    why: str


NO_TERMINAL = "the tests run in other processes, which no terminal reaches"
KEPT_HERE = frozenset(
    {
        *("-x", "--exitfirst", "--maxfail", "--lf", "--last-failed", "--ff", "--failed-first"),
        *("--lfnf", "--last-failed-no-failures", "--cache-clear", "--no-header", "--no-summary"),
        *("--durations", "--durations-min", "--junitxml", "--junit-xml", "--junitprefix"),
        *("--junit-prefix", "-q", "--quiet", "-r", "--color", "--code-highlight", "--pastebin"),
        *("--show-capture", "--disable-warnings", "--disable-pytest-warnings", "--no-fold-skipped"),
        *("--force-short-summary", "-n", "--numprocesses", "--dist", "--tx", "--maxprocesses"),
        *("--self-contained-html", "--css", "--alluredir", "--clean-alluredir"),
        *("--json-report-file",),
        *whole_run_options(),
    }
)
"""Besides what is for the whole run, by the list that sessions have, too."""
OWN = "--dtest"
"""How the options begin that tell where to run."""
REFUSED: tuple[tuple[str, str, str], ...] = (
    ("usepdb", "--pdb", NO_TERMINAL),
    ("trace", "--trace", NO_TERMINAL),
    ("numprocesses", "-n", "the cell spreads the tests; give --dtest-workers, or -n 0"),
    ("tx", "--tx", "the cell spreads the tests; give --dtest-workers"),
    ("looponfail", "--looponfail", "one run is made for each call"),
    ("stepwise", "--stepwise", "the tests run side by side, in no order of their own"),
    ("stepwise_skip", "--stepwise-skip", "the tests run side by side, in no order of their own"),
    ("newfirst", "--new-first", "the tests run side by side; --failed-first is possible"),
    ("setuponly", "--setup-only", NO_TERMINAL),
    ("setupshow", "--setup-show", NO_TERMINAL),
    ("setupplan", "--setup-plan", NO_TERMINAL),
    ("cov_source", "--cov", "sessions leave their data as artefacts: see `dtest report coverage`"),
)
"""Name in pytest's options, as it is written, why."""


def refusals(option: Callable[[str], object]) -> list[Refusal]:
    """Return what of the call is refused; ``option`` gives a value by its name in pytest."""
    return [Refusal(written, why) for name, written, why in REFUSED if option(name)]


LISTING = frozenset(
    {
        *("--collect-only", "--collectonly", "--co", "--fixtures", "--funcargs", "--markers"),
        *("--fixtures-per-test", "--help", "-h", "--version", "-V", "--cache-show"),
    }
)
"""Options that run no test."""
_ALSO = {
    "-n": ("--numprocesses", "--dist"),
    "--looponfail": ("-f",),
    "--stepwise": ("--sw",),
    "--stepwise-skip": ("--sw-skip",),
    "--new-first": ("--nf",),
}
"""Other ways to write what is refused."""


def refused_words(words: Iterable[str]) -> list[Refusal]:
    """Return what is refused among words for sessions, which no pytest here has read."""
    whys = {written: why for _, written, why in REFUSED}
    whys |= {also: whys[written] for written, others in _ALSO.items() for also in others}
    whys |= dict.fromkeys(LISTING, "it runs no test: ask pytest itself")
    names = [word.partition("=")[0] for word in words]
    return [Refusal(name, whys[name]) for name in dict.fromkeys(names) if name in whys]


def arities(actions: Mapping[str, Any]) -> dict[str, Arity]:
    """Return how many words each option takes, by argparse's actions."""
    return {name: _arity(action.nargs) for name, action in actions.items()}


def arities_of(config: Any) -> dict[str, Arity]:  # noqa: ANN401 - of any version of pytest
    """Return how many words each option of a pytest takes, by its configuration."""
    parser = config._parser  # noqa: SLF001 - pytest tells no other way how words belong together
    own = getattr(parser, "optparser", None) or parser._getparser()  # noqa: SLF001 - before pytest 9
    return arities(own._option_string_actions)  # noqa: SLF001 - the same


def _arity(nargs: int | str | None) -> Arity:
    match nargs:
        case None:
            return ONE_WORD
        case int(count):
            return Arity(count, count)
        case "?":
            return Arity(0, 1)
        case "+":
            return Arity(1, MANY)
        case _:
            return Arity(0, MANY)


def tokens(words: Sequence[str], known: Mapping[str, Arity]) -> Iterator[Token]:
    """Cut a command line into options and paths."""
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            yield from (Token("", (path,)) for path in left)
            return
        if not word.startswith("-") or word == "-":
            yield Token("", (word,))
        elif word.startswith("--"):
            yield _long(word, left, known)
        else:
            yield from _short(word, left, known)


def _long(word: str, left: list[str], known: Mapping[str, Arity]) -> Token:
    name, equals, _ = word.partition("=")
    return Token(name, (word,) if equals else (word, *_taken(left, known.get(name, NO_WORD))))


def _short(word: str, left: list[str], known: Mapping[str, Arity]) -> Iterator[Token]:
    """Cut ``-xvk name`` into its options."""
    for place, letter in enumerate(word[1:], start=1):
        name = f"-{letter}"
        arity = known.get(name, NO_WORD)
        rest = word[place + 1 :]
        if not arity.most:
            yield Token(name, (name,))
        elif rest:
            yield Token(name, (f"{name}{rest}",))
            return
        else:
            yield Token(name, (name, *_taken(left, arity)))


def _taken(left: list[str], arity: Arity) -> list[str]:
    count = 0
    while count < min(arity.most, len(left)):
        if count >= arity.least and left[count].startswith("-"):
            break
        count += 1
    taken, left[:count] = left[:count], []
    return taken


class HandedOn(NamedTuple):
    """What the sessions are told."""

    paths: list[str]
    args: list[str]


def handed_on(found: Iterable[Token]) -> HandedOn:
    """Return what goes to the sessions of a whole call, settings and environment included."""
    paths: list[str] = []
    args: list[str] = ["-o", "addopts="]  # what the settings say is among the words already
    for token in found:
        if not token.name:
            paths += token.words
        elif not _stays(token):
            args += token.words
    return HandedOn(paths, args)


def _stays(token: Token) -> bool:
    if token.name in KEPT_HERE or token.name == OWN or token.name.startswith(f"{OWN}-"):
        return True
    value = "".join(token.words).removeprefix(token.name).removeprefix("=")
    overrides = token.name in ("-o", "--override-ini") and value.startswith("addopts=")
    return overrides or (token.name == "-p" and value.startswith("dtest."))
