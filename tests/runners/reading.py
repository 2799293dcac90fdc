"""What the tests of runners share: recorded results, and verdicts by name."""

from pathlib import Path

from dtest.runners.case import Case, Reading

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> bytes:
    """What a real runner wrote."""
    return (RECORDED / name).read_bytes()


def outcomes(reading: Reading) -> dict[str, str]:
    """The verdicts by name; no name may come twice."""
    found: dict[str, str] = {case.name: case.outcome for case in reading.cases}
    assert len(found) == len(reading.cases)
    return found


def named(reading: Reading, name: str) -> Case:
    """One test."""
    return next(case for case in reading.cases if case.name == name)
