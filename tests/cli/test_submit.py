"""One command is submitted with its wishes, and its output is shown while somebody waits."""

import pytest

from tests.cli.cell import CellUser


@pytest.mark.parametrize("code", [0, 3])
def test_the_output_of_a_command_is_shown_and_its_end_told(cell: CellUser, code: int) -> None:
    ended = cell.here("submit", "--wait", "--", "sh", "-c", f"echo one; sleep 0.3; exit {code}")

    assert ended.out == "one\n"
    assert ended.code == (1 if code else 0)
    task = cell.here("task", "show", "@last", "--json").good().json["task_id"]
    assert (f"`dtest task show {task}`: failed, exit_nonzero" in ended.err) is bool(code)


def test_a_command_says_what_it_wants(cell: CellUser) -> None:
    wishes = ("--priority", "2", "--timeout-seconds", "60", "--retries", "1", "--label", "a=b=c")
    words = (*wishes, "--hardware", "cuda", "--hardware", "cpu", "--name", "wishes")

    cell.here("submit", *words, "--wait", "--", "true").good()

    document = cell.here("task", "show", "@last", "--json").good().json["document"]
    assert document["priority"] == 2
    assert document["timeout_seconds"] == 60
    assert document["retry_policy"]["max_retries"] == 1
    assert document["labels"] == {"a": "b=c"}
    assert document["requirements"]["hardware"] == ["cuda", "cpu"]


def test_waiting_for_what_no_worker_has_ends_in_time(cell: CellUser) -> None:
    hardware = ("--hardware", "no-such-hardware")

    at_once = cell.here("submit", "--wait", "--fail-unmatched", *hardware, "--", "true")
    in_time = cell.here("submit", "--wait", "--timeout", "1", *hardware, "--", "true")

    assert (at_once.code, in_time.code) == (8, 8)
    cell.here("run", "cancel", "@last").good()


def test_a_command_that_takes_longer_than_somebody_waits_goes_on(cell: CellUser) -> None:
    ended = cell.here("submit", "--wait", "--timeout", "1", "--", "sh", "-c", "echo on; sleep 60")

    assert (ended.code, ended.out) == (6, "on\n")
    assert "it goes on" in ended.err
    cell.here("task", "cancel", "@last").good()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--priority", "2", "task.json"), "stand in the documents"),
        (("--label", "nonsense", "--", "true"), "NAME=VALUE"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(
    cell: CellUser, words: tuple[str, ...], said: str
) -> None:
    (cell.cwd / "task.json").write_text('{"type": "command", "config": {"command": ["true"]}}')

    ended = cell.here("submit", *words)

    assert (ended.code, said in ended.err) == (2, True), ended.err
