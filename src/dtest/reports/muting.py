"""The list of tests that are known to be flaky: they run and are shown, and do not gate. Pure.

Every entry ends on a day that it states: a list without one only ever grows. The text is read and
judged here; finding the file is the command line's part.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from dtest.errors import UsageError
from dtest.reports.plan import names_answered, split

FILE_NAME = "dtest-known-flaky.toml"
ENTRIES_MAX = 10_000
_KEYS = {"test", "reason", "expires", "issue"}
_HINT = 'an entry: [[flaky]], test = "tests/test_a.py::test_b", reason = "…", expires = 2027-01-31'


@dataclass(frozen=True, slots=True)
class Muted:
    """One entry of the list."""

    test: str
    """A node id, or the file or class around it, or one without parameters; ``*`` is any text."""
    reason: str
    expires: date
    """The last day on which it holds."""
    issue: str = ""


@dataclass(frozen=True, slots=True)
class KnownFlaky:
    """The entries that hold today, and those that did until they expired."""

    entries: tuple[Muted, ...] = ()
    expired: tuple[Muted, ...] = ()

    def of(self, nodeids: Iterable[str]) -> dict[str, Muted]:
        """Return the entry of each node id that has one; one without ``*`` goes first."""
        exact: dict[str, Muted] = {}
        patterns: list[tuple[re.Pattern[str], Muted]] = []
        for entry in self.entries:
            if "*" in entry.test:
                patterns.append((_pattern(entry.test), entry))
            else:
                exact.setdefault(entry.test, entry)
        found: dict[str, Muted] = {}
        for nodeid in set(nodeids) if self.entries else ():
            names = _names(nodeid)
            fits = [exact[name] for name in names if name in exact]
            fits += [entry for pattern, entry in patterns if any(map(pattern.fullmatch, names))]
            if fits:
                found[nodeid] = fits[0]
        return found

    def warnings(self) -> tuple[str, ...]:
        """Say which entries mute nothing any more."""
        return tuple(
            f"{entry.test} is muted no more: its entry expired on {entry.expires.isoformat()}"
            for entry in self.expired
        )


NONE_MUTED = KnownFlaky()


def read_known_flaky(text: str, *, source: str, today: date) -> KnownFlaky:
    """Read a list. Raises UsageError that names the entry and what is wrong with it."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"{source} is no TOML: {error}"
        raise UsageError(message, hint=_HINT) from error
    stranger = next((key for key in content if key != "flaky"), None)
    tables = content.get("flaky", [])
    if stranger is not None or not isinstance(tables, list) or len(tables) > ENTRIES_MAX:
        named = f"unknown key {stranger!r}" if stranger is not None else "flaky is no list"
        message = f"{source}: {named}; it holds at most {ENTRIES_MAX} tables [[flaky]]"
        raise UsageError(message, hint=_HINT)
    entries = [_entry(table, f"{source}: entry {n}") for n, table in enumerate(tables, 1)]
    return KnownFlaky(
        tuple(entry for entry in entries if entry.expires >= today),
        tuple(entry for entry in entries if entry.expires < today),
    )


def _entry(table: object, where: str) -> Muted:
    if not isinstance(table, Mapping):
        message = f"{where} is no table"
        raise UsageError(message, hint=_HINT)
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        message = f"{where}: unknown key {unknown[0]!r}"
        raise UsageError(message, hint=f"known: {', '.join(sorted(_KEYS))}")
    issue = table.get("issue", "")
    if not isinstance(issue, str) or (issue and not issue.startswith(("https://", "http://"))):
        message = f"{where}: issue is {issue!r}, not an address"
        raise UsageError(message, hint="give the address of the issue, as https://…")
    return Muted(
        _text(table, "test", where), _text(table, "reason", where), _day(table, where), issue
    )


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        message = f"{where}: {key} is {'missing' if value is None else 'no text'}"
        raise UsageError(message, hint=_HINT)
    return value


def _day(table: Mapping[str, Any], where: str) -> date:
    value = table.get("expires")
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    elif isinstance(value, date) and not isinstance(value, datetime):
        return value
    wrong = "missing" if value is None else f"{str(value)!r}, not a day"
    message = f"{where}: expires is {wrong}"
    raise UsageError(message, hint="every entry states its last day, as 2027-01-31")


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def _names(nodeid: str) -> list[str]:
    """Return all that an entry may call a test by."""
    file, inside = split(nodeid)
    return [nodeid, file, *(f"{file}::{name}" for name in names_answered(inside) if name)]
