"""Which planned tests were seen. Pure.

A plan may name a test more loosely than a report does: by an absolute path, by its class, or
without its parameters, as on pytest's command line.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from dtest.reports.observation import Planned


def unseen(planned: Iterable[Planned], observed: Iterable[tuple[str, str]]) -> list[Planned]:
    """Return the plan's tests that no observed (node id, hardware) answers to, in order."""
    wanted = list(planned)
    answers: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for nodeid, hardware in observed if wanted else ():
        file, names = split(nodeid)
        for name in names_answered(names):
            answers[_last_part(file), name].add((file, hardware))
    return [item for item in wanted if not _is_answered(item, answers)]


def _is_answered(item: Planned, answers: dict[tuple[str, str], set[tuple[str, str]]]) -> bool:
    wanted, name = split(item.nodeid)
    found = answers.get((_last_part(wanted), name), ())
    return any(
        _same_file(wanted, file) and item.hardware in (None, hardware) for file, hardware in found
    )


def split(nodeid: str) -> tuple[str, str]:
    """Return the file of a node id, and the name inside of it."""
    file, _, inside = nodeid.partition("::")
    return file, inside


def names_answered(name: str) -> Iterator[str]:
    """Yield what a test answers to in its file: itself, its classes, without its parameters."""
    yield name
    bare, bracket, _ = name.partition("[")
    words = bare.split("::")
    for depth in range(0 if name else 1, len(words)):
        yield "::".join(words[:depth])
    if bracket:
        yield bare


def _same_file(one: str, other: str) -> bool:
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def _last_part(file: str) -> str:
    return file.rpartition("/")[2]
