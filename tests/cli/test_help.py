"""The help: every command is there, begins with a sentence and leaves no option unexplained."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from cyclopts import App
from rich.console import Console

from dtest.cli.main import app, in_full
from dtest.roles.agent_main import app as agent_app
from tests.cli.command import AGENT, Person

PROMISED = """
demo · up · down · status · doctor · submit · test · why · stress
run ls · run show · run watch · task ls · task show · task logs · task cancel · task retry
worker ls · worker show · worker drain
event tail · event publish · event show · event schema · event verify · event replay
db query · config view · server scheduler · server api · server migrate · server rebuild
"""
"""The words of issue 2."""
OWN = ("--help", "--version")


def commands(of: App, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    names = [name for name in of if name not in (*OWN, "-h")]
    if not names:
        yield path
    for name in names:
        yield from commands(of[name], *path, name)


ALL = [" ".join(path) for path in commands(app)]


def help_of(words: str) -> str:
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    in_full(app, words.split())
    app([*words.split(), "--help"], console=console, result_action="return_value")
    return shown.getvalue()


def options_of(command: App) -> list[Any]:
    arguments = command.assemble_argument_collection(parse_docstring=True)
    return [argument for argument in arguments if not argument.children]


def unexplained(command: App) -> list[str]:
    return [one.name for one in options_of(command) if not (one.parameter.help or "").strip()]


def test_every_promised_command_exists() -> None:
    promised = {
        words.strip() for line in PROMISED.strip().splitlines() for words in line.split("·")
    }

    assert promised <= set(ALL)


@pytest.mark.parametrize("words", ALL)
def test_a_commands_help_begins_with_a_sentence(words: str) -> None:
    usage, sentence = [line for line in help_of(words).splitlines() if line.strip()][:2]

    assert usage.startswith(f"Usage: dtest {words}")
    assert sentence[0].isupper()
    assert len(sentence.split()) >= 2
    assert sentence.rstrip().endswith(".")


@pytest.mark.parametrize("words", ALL)
def test_no_option_is_left_unexplained(words: str) -> None:
    assert not unexplained(in_full(app, words.split()))


@pytest.mark.parametrize("words", ALL)
def test_every_command_can_answer_as_json(words: str) -> None:
    names = {name for one in options_of(in_full(app, words.split())) for name in one.names}

    assert "--json" in names


@pytest.mark.parametrize("words", ALL)
def test_a_help_shows_examples(words: str) -> None:
    assert "Example" in help_of(words)


@pytest.mark.parametrize("words", ["", *ALL])
def test_every_help_names_the_exit_codes(words: str) -> None:
    text = " ".join(help_of(words).split())

    for meaning in (
        *("0 success", "1 work ran and failed", "2 usage", "3 infrastructure", "4 permission"),
        *("5 nothing selected", "6 timed out", "8 no worker can ever match", "130 interrupted"),
    ):
        assert meaning in text


def test_the_agents_help_explains_every_option() -> None:
    assert not unexplained(agent_app)


def test_the_agent_ends_as_the_command_line_does(person: Person) -> None:
    ended = person.dtest("--nonsense", program=AGENT)

    assert ended.code == 2
    assert "dtest: Unknown option: --nonsense" in ended.err


def test_help_goes_to_standard_output_and_is_success(person: Person) -> None:
    ended = person.dtest("--help").good()

    assert "Usage: dtest" in ended.out
    assert not ended.err


def test_the_version_is_one_line(person: Person) -> None:
    assert person.dtest("--version").good().out.strip().count(".") == 2


def test_a_group_alone_shows_its_help(person: Person) -> None:
    assert "Usage: dtest event COMMAND" in person.dtest("event").good().out
