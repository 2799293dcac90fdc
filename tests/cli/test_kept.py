"""``dtest test --keep``: the cell of a call stays for the next one, and for nobody else."""

import json
import signal
from pathlib import Path

import psutil
import pytest

from tests.cli.command import Ended, Person, eventually, interrupt
from tests.cli.conftest import Suite
from tests.cli.test_interrupts import HANGING, hanging
from tests.cli.test_pytest_plugin import called

GOOD = "def test_good(): pass\n"
WHERE = """
import os

def test_where():
    assert os.environ.get("FLAVOUR", "plain") == "{flavour}"
"""
STAYS = "the cell stays for 300 s"


@pytest.fixture
def keeper(person: Person) -> Person:
    """Somebody who lets cells stay."""
    return person


def kept(person: Person) -> list[Path]:
    """The directories of the kept cells."""
    return sorted(
        path.parent.parent for path in (person.state.parent / ".kept").glob("*/main/stack.json")
    )


def supervisor(person: Person) -> int:
    """The process that owns the one kept cell."""
    (directory,) = kept(person)
    return int(json.loads((directory / "main" / "stack.json").read_bytes())["pid"])


def ends(person: Person) -> None:
    """All that ran for the person ends, and is removed."""
    person.nothing_is_left()
    eventually(lambda: not list((person.state.parent / ".kept").glob("*")), what="nothing is kept")


def ran(person: Person, home: Path, *words: str, **env: str) -> Ended:
    return person.at(home, **env).dtest("test", *words)


def test_the_next_call_uses_the_cell_that_stayed_and_down_ends_it(
    keeper: Person, suite: Suite
) -> None:
    home = suite(test_good=GOOD)

    first = ran(keeper, home, "--keep", "300").good()
    assert STAYS in first.err
    pid = supervisor(keeper)
    second = ran(keeper, home, "--keep", "300").good()
    third = ran(keeper, home).good()

    assert second.out == third.out == first.out == "1 passed\n"
    assert supervisor(keeper) == pid
    assert STAYS in third.err, "as long as it was kept for"
    told = keeper.at(home).dtest("down").good().err
    assert f"the cell that was kept for {home} ended" in told
    ends(keeper)


def test_a_call_that_says_nothing_keeps_nothing(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)

    assert "stays" not in ran(keeper, home).good().err

    keeper.nothing_is_left()
    assert not kept(keeper)


def test_none_is_used_and_none_stays_where_that_is_said(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    ran(keeper, home, "--keep", "300").good()
    pid = supervisor(keeper)

    assert "stays" not in ran(keeper, home, "--keep", "0").good().err

    assert supervisor(keeper) == pid, "that one stays as it was told to"
    keeper.at(home).dtest("down").good()
    ends(keeper)


def test_a_kept_cell_is_used_by_nobody_with_another_environment_and_ends_then(
    keeper: Person, suite: Suite
) -> None:
    home = suite(test_where=WHERE.format(flavour="sweet"))
    ran(keeper, home, "--keep", "300", FLAVOUR="sweet").good()
    first = supervisor(keeper)

    (home / "test_where.py").write_text(WHERE.format(flavour="sour"), encoding="utf-8")
    ran(keeper, home, "--keep", "300", FLAVOUR="sour").good()

    eventually(lambda: len(kept(keeper)) == 1, what="the other one ends")
    assert supervisor(keeper) != first
    keeper.at(home).dtest("down").good()
    ends(keeper)


def test_a_cell_in_use_is_nobodys_to_end(keeper: Person, suite: Suite) -> None:
    home = suite(test_hang=HANGING)
    with keeper.at(home).started("test", "--keep", "300", "--workers", "1") as call:
        hanging(call, home)

        told = keeper.here("down", "--json").good().json
        assert (told["kept"], told["in_use"]) == ([], [str(home)])
        assert call.poll() is None
        other = suite("other", test_good=GOOD)
        assert ran(keeper, other, "--keep", "0").good().out == "1 passed\n"
        assert interrupt(call).code == 130

    assert keeper.here("down", "--json").good().json["kept"] == [str(home)]
    ends(keeper)


def test_a_cell_may_be_called_kept(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    keeper.dtest("up", "--cell", "kept", "--workers", "1").good()

    ran(keeper, home, "--keep", "300").good()
    ran(keeper, home, "--keep", "300").good()
    keeper.dtest("down").good()

    keeper.dtest("status", "--cell", "kept").good()
    keeper.dtest("down", "--cell", "kept", "--purge").good()
    ends(keeper)


def test_pytest_and_dtest_use_the_same_one(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    ran(keeper, home, "--keep", "300").good()
    pid = supervisor(keeper)

    called(keeper.at(home), "--dtest").good()

    assert supervisor(keeper) == pid
    keeper.at(home).dtest("down").good()
    ends(keeper)


def test_it_ends_with_its_settings(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    ran(keeper, home, "--keep", "300").good()

    (home / "dtest.toml").write_text("[test]\nreruns = 1\n", encoding="utf-8")

    ends(keeper)


def test_it_ends_with_its_directory(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    ran(keeper, home, "--keep", "300").good()

    home.rename(home.with_name("elsewhere"))

    ends(keeper)


def test_it_ends_when_its_time_is_over(keeper: Person, suite: Suite) -> None:
    ran(keeper, suite(test_good=GOOD), "--keep", "1").good()

    ends(keeper)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_it_does_not_outlive_a_caller_that_dies(
    keeper: Person, suite: Suite, number: signal.Signals, code: int
) -> None:
    home = suite(test_hang=HANGING)
    with keeper.at(home).started("test", "--keep", "300", "--workers", "1") as call:
        hanging(call, home)
        ended = interrupt(call, number)
    assert ended.code == code
    if number is signal.SIGINT:  # its run is over: the cell is as good as before
        eventually(lambda: "hanging" not in names(keeper), what="the suite ended")
        keeper.at(home).dtest("down").good()

    ends(keeper)


def names(person: Person) -> set[str]:
    """What runs for the person."""
    return {process.name() for process in person.processes()}


def test_a_killed_cell_is_swept_up_by_the_next_call(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    ran(keeper, home, "--keep", "300").good()
    pid = supervisor(keeper)
    psutil.Process(pid).kill()

    ran(keeper, home, "--keep", "300").good()

    assert supervisor(keeper) != pid
    keeper.at(home).dtest("down").good()
    ends(keeper)


def test_the_settings_keep_it_at_a_terminal_alone(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)
    (home / "dtest.toml").write_text("[test]\nkeep = 300\n", encoding="utf-8")

    assert "stays" not in ran(keeper, home, CI="").good().err
    assert "stays" not in keeper.at(home, CI="true").on_terminal("test")
    assert STAYS in keeper.at(home, CI="").on_terminal("test")

    keeper.at(home).dtest("down").good()
    ends(keeper)


@pytest.mark.parametrize("value", ["-1", "1000000"])
def test_a_time_that_makes_no_sense_is_refused(keeper: Person, suite: Suite, value: str) -> None:
    ended = ran(keeper, suite(test_good=GOOD), f"--keep={value}")

    assert ended.code == 2
    assert f"--keep is {float(value):g}; 0 to 86400 seconds are possible" in ended.err


def test_pytest_lets_a_cell_stay_too(keeper: Person, suite: Suite) -> None:
    home = suite(test_good=GOOD)

    first = called(keeper.at(home), "--dtest", "--dtest-keep", "300").good()
    assert STAYS in first.out
    pid = supervisor(keeper)
    called(keeper.at(home), "--dtest").good()

    assert supervisor(keeper) == pid
    keeper.at(home).dtest("down").good()
    ends(keeper)
