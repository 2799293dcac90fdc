"""What a probe hands back, and the words for what it could not read.

It decides nothing about hardware.
"""

from dataclasses import dataclass
from typing import assert_never

from dtest.agents.probe.machine import Answer, Ended, TimedOut
from dtest.events.worker import Device

NAME_CHARS_MAX = 200
DRIVER_CHARS_MAX = 100
WORDS_CHARS_MAX = 500
DEVICES_MAX = 64
"""Of one kind on one machine."""


@dataclass(frozen=True, slots=True)
class Found:
    """The devices of one kind, and what is present but unreadable."""

    devices: tuple[Device, ...] = ()
    problems: tuple[str, ...] = ()


def words(text: str, chars_max: int = WORDS_CHARS_MAX) -> str:
    """Return a text on one line, printable and not too long."""
    line = " ".join(text[: chars_max * 4].split())
    return "".join(char for char in line if char.isprintable())[:chars_max].strip()


def complaint(tool: str, answer: Answer) -> str:
    """Say what a command did instead of giving a useful answer."""
    match answer:
        case None:
            return f"{tool} cannot be started"
        case TimedOut(after_s):
            return f"{tool} gave no answer in {after_s:g} s"
        case Ended(exit_code, output, errors):
            said = _first_line(output) or _first_line(errors) or "nothing"
            return words(f"{tool} ended with code {exit_code} and said: {said}")
        case _:
            assert_never(answer)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if words(line)), "")
