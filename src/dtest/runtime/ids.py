"""The one source of luck: new identifiers and secrets."""

import os
import secrets
import time

_COUNTER_BITS = 12


class IdSource:
    """UUID version 7 (RFC 9562): time-ordered, and ordered within one source."""

    def __init__(self) -> None:
        self._last_ms = 0
        self._count = 0

    def __call__(self) -> str:
        """Return a new id in its 36-character form."""
        now_ms = time.time_ns() // 1_000_000
        if now_ms > self._last_ms:
            self._last_ms, self._count = now_ms, 0
        else:
            self._count += 1
            if self._count >> _COUNTER_BITS:
                self._last_ms, self._count = self._last_ms + 1, 0
        tail = os.urandom(8).hex()
        stamp = f"{self._last_ms:012x}"
        variant = "89ab"[int(tail[0], 16) & 3]
        return f"{stamp[:8]}-{stamp[8:]}-7{self._count:03x}-{variant}{tail[1:4]}-{tail[4:]}"


def short_id() -> str:
    """Return 12 random characters that may stand in a subject."""
    return secrets.token_hex(6)


def secret() -> str:
    """Return a 256-bit secret."""
    return secrets.token_urlsafe(32)


def jitter() -> float:
    """Return a number from 0 to 1 that nobody else has."""
    return secrets.randbelow(1_000_001) / 1_000_000
