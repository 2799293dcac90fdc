"""`--runner` names a runner with its options, or a command; else it says what there is."""

import pytest

from dtest.errors import UsageError
from dtest.runners import results
from dtest.runners.case import Ended, Listing, Order
from dtest.runners.command import Command
from dtest.runners.registry import ADAPTERS, NAMES, Chosen, adapter, chosen
from tests.runners.reading import recorded

TEXTS = [
    ("pytest", Chosen("pytest")),
    ("unittest", Chosen("unittest")),
    ("unittest -p 'check_*.py'", Chosen("unittest", ("-p", "check_*.py"))),
    ("gtest --gtest_shuffle", Chosen("gtest", ("--gtest_shuffle",))),
    ("ctest -C Debug", Chosen("ctest", ("-C", "Debug"))),
    ("go", Chosen("go")),
    ("go -race", Chosen("go", ("-race",))),
    ("go test -json ./...", Chosen("command", ("go", "test", "-json", "./..."))),
    ("node --test 'a b'", Chosen("command", ("node", "--test", "a b"))),
    ("./check", Chosen("command", ("./check",))),
]
REFUSED = [
    ("", "names no runner"),
    ("gtset", "no runner 'gtset'"),
    ("node 'a", "cannot be read"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_a_name_with_options_is_told_from_a_command(text: str, expected: Chosen) -> None:
    assert chosen(text) == expected


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_what_names_nothing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        chosen(text)


def test_a_refusal_lists_what_there_is() -> None:
    with pytest.raises(UsageError) as refused:
        chosen("nope")

    assert refused.value.hint is not None
    assert all(name in refused.value.hint for name in (*NAMES, *results.FORMS))
    with pytest.raises(UsageError, match="no runner 'nope'"):
        adapter("nope")
    assert all(adapter(name) is ADAPTERS[name] for name in ADAPTERS)


def test_a_command_runs_once_or_for_each_path() -> None:
    command = Command()
    alone = Order(("/usr/bin/prove", "-v"), ("t/a.t", "t/b.t"))
    each = Order(("prove", "-v", "{path}", "--out={results}"), ("t/a.t", "t/b.t"))

    assert command.targets(alone) == Listing(whole=("prove",))
    assert command.command(alone, "prove", None, "/r") == (*alone.arguments, *alone.paths)
    assert command.targets(each) == Listing(whole=("t/a.t", "t/b.t"))
    assert command.command(each, "t/a.t", None, "/r") == ("prove", "-v", "t/a.t", "--out=/r")
    assert "name the paths" in command.targets(Order(("x", "{path}"))).problem


@pytest.mark.parametrize("name", ["node-20.junit.xml", "node-20.tap", "go.jsonl"])
def test_the_form_of_results_is_known_by_its_first_line(name: str) -> None:
    reading = results.read(b"> some words\n\n" + recorded(name))

    assert len(reading.cases) > 3
    assert reading.problem == ""


@pytest.mark.parametrize(("data", "what"), [(b"", "nothing"), (b"All good!\n", "something else")])
def test_results_of_no_known_form_are_a_problem(data: bytes, what: str) -> None:
    assert results.read(data).problem.endswith(f"there was {what}")


def test_several_files_of_results_are_read_and_the_bad_one_is_named() -> None:
    files = (("a.xml", recorded("node-20.junit.xml")), ("b.xml", b""))

    reading = Command().read(Order(("x",)), None, Ended(0, b"", files), None)

    assert len(reading.cases) == 7
    assert reading.problem.startswith("b.xml: ")
