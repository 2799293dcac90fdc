"""``dtest demo`` while somebody is impatient; its whole story is an acceptance test."""

import signal

import pytest

from tests.cli.command import Person, interrupt, said


@pytest.mark.parametrize(
    ("after", "number", "code"),
    [("submitted 14 tasks", signal.SIGINT, 130), ("starting broker", signal.SIGTERM, 143)],
)
def test_an_interrupted_demo_leaves_nothing(
    person: Person, after: str, number: signal.Signals, code: int
) -> None:
    with person.started("demo") as call:
        said(call, after)

        ended = interrupt(call, number)

    assert ended.code == code
    assert "Traceback" not in ended.err
    person.nothing_is_left()


@pytest.mark.slow
def test_a_demo_stays_to_be_looked_at_until_ctrl_c(person: Person) -> None:
    with person.started("demo") as call:
        *_, line = said(call, "try: dtest status")
        directory = line.split()[-1]

        status = person.here("status", "--state-dir", directory, "--json").good().json
        ended = interrupt(call)

    assert status["tasks"]["cancelled"] == 1
    assert ended.code == 0
    assert ended.out.endswith("all as it should be\n")
    person.nothing_is_left()
