"""The one small tree of errors that dtest raises to its callers.

Every message names the thing that is wrong; ``hint`` names the next step. Conditions that are
part of normal operation (a refused event, a lost race for an epoch) are values, not errors.
"""

NOTHING_SELECTED = 5
"""Exit code of a call that found nothing to do: never green, and no failure."""


class DtestError(Exception):
    """Anything that dtest itself reports; ``exit_code`` is what the command line returns."""

    exit_code = 3
    code = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DtestError):
    """A wrong option, file or setting; nothing was done."""

    exit_code = 2
    code = "usage"


class InvalidDocument(DtestError):
    """A document from outside does not have the agreed form."""

    exit_code = 2
    code = "invalid"


class NotFound(DtestError):
    """A named run, task, worker or file does not exist."""

    exit_code = 2
    code = "not_found"


class Conflict(DtestError):
    """The request contradicts what is already recorded."""

    exit_code = 2
    code = "conflict"


class PermissionRefused(DtestError):
    """The token or NATS user may not do this."""

    exit_code = 4
    code = "forbidden"


class Unavailable(DtestError):
    """The journal, the API or a child process cannot be reached."""

    exit_code = 3
    code = "unavailable"


class JournalFull(Unavailable):
    """The journal's storage limit is reached: nothing was written, nothing was forgotten."""

    code = "journal_full"


class Overloaded(Unavailable):
    """A bound of the API is reached for now: nothing was done, the same may be asked again."""

    code = "overloaded"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: int = 1) -> None:
        super().__init__(message, hint=hint or f"ask again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class TimedOut(DtestError):
    """A wait ended before what it waited for."""

    exit_code = 6
    code = "timed_out"


class TooManyFailures(DtestError):
    """A run was ended after as many failures as it was to have."""

    exit_code = 1
    code = "too_many_failures"


class SuiteStopped(DtestError):
    """A suite ended its run itself, as by ``pytest.exit``."""

    exit_code = 1
    code = "suite_stopped"


class NoWorkerMatches(DtestError):
    """A task waits that no worker of the cell could ever run."""

    exit_code = 8
    code = "no_match"


class SequenceGap(DtestError):
    """A sequence number is missing in the journal: recorded events were lost."""

    code = "sequence_gap"


class Damaged(DtestError):
    """Stored files are not what was written: changed, cut, exchanged or removed."""

    code = "damaged"
