"""Finds and reads the list of known flaky tests."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from dtest.errors import UsageError
from dtest.reports.muting import FILE_NAME, NONE_MUTED, KnownFlaky, read_known_flaky


def known_flaky_tests(stated: Path | None, tell: Callable[[str], None]) -> KnownFlaky:
    """Read the list, and tell which entries have expired.

    Raises UsageError when the list is malformed, or was stated and is not there.
    """
    path = stated if stated is not None else _nearest(Path.cwd())
    if path is None:
        return NONE_MUTED
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise UsageError(message, hint=f"a list is made by hand: {FILE_NAME}") from error
    found = read_known_flaky(text, source=str(path), today=today())
    for warning in found.warnings():
        tell(f"dtest: {path}: {warning}")
    return found


def _nearest(start: Path) -> Path | None:
    paths = (directory / FILE_NAME for directory in (start, *start.parents))
    return next((path for path in paths if path.is_file()), None)


def today() -> date:
    """Return the day, in UTC as everywhere."""
    return datetime.now(UTC).date()
