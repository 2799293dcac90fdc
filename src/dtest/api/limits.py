"""The bounds of one API process, as its settings state them; docs/limits.md tells of each."""

from dataclasses import dataclass

from dtest.errors import UsageError
from dtest.settings import Settings


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What is taken at once, and in all. 0 takes none."""

    submissions_max: int
    submission_bytes_max: int
    uploads_max: int
    upload_bytes_max: int
    requests_max: int
    reads_max: int
    waits_max: int
    queries_max: int
    streams_max: int
    backlog_tasks_max: int
    journal_reserve_ratio: float


def limits_of(settings: Settings) -> ApiLimits:
    """Read the bounds. Raises UsageError."""
    ratio = settings.limit("journal_reserve_ratio")
    if ratio >= 1.0:
        message = f"journal_reserve_ratio is {ratio:g}; below 1 something is left to clients"
        raise UsageError(message, hint="see docs/limits.md")
    return ApiLimits(
        int(settings.limit("submissions_max")),
        int(settings.limit("submission_bytes_max")),
        int(settings.limit("uploads_max")),
        int(settings.limit("upload_bytes_max")),
        int(settings.limit("requests_max")),
        int(settings.limit("reads_max")),
        int(settings.limit("waits_max")),
        int(settings.limit("queries_max")),
        int(settings.limit("streams_max")),
        int(settings.limit("backlog_tasks_max")),
        ratio,
    )


DEFAULT_LIMITS = limits_of(Settings({}))
