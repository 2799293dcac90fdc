"""Starts the supervisor of a cell of one's own before it is known what is wanted of it.

Loading is most of a start. It begins while the caller still loads its own code and reads options.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtest.runtime.kept import PLACE
from dtest.runtime.lifecycle import end_with_parent, signals_held
from dtest.settings import FLAGS, load_settings

_USES = ("--api", "--detach", "--help", "-h", "--version")
"""Options with which no cell is made."""


class WarmStack:
    """A supervisor that loads; it ends with its caller unless it is told what to do."""

    def __init__(self) -> None:
        with signals_held() as release:

            def prepare() -> None:
                release()
                end_with_parent()

            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dtest.roles.warm"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - no threads yet
            )

    def tell(self, options: Mapping[str, Any], log: Path) -> "subprocess.Popen[bytes] | None":
        """Tell it what to do; return its process, none if it has ended."""
        if self.process.stdin is None or self.process.poll() is not None:
            return None
        try:
            self.process.stdin.write(json.dumps({**options, "log": str(log)}).encode() + b"\n")
            self.process.stdin.close()
        except BrokenPipeError:
            return None
        return self.process

    def close(self) -> None:
        """End it, untold; its fork server ends with it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


_warm: list[WarmStack] = []


def begin(words: list[str]) -> None:
    """Start one if the words of a call seem to ask for a cell of its own, and none was kept.

    Raises UsageError for settings that cannot be read.
    """
    if any(word.partition("=")[0] in _USES for word in words):
        return
    settings = load_settings(_flags(words))
    is_kept = any((settings.state_dir / PLACE).glob("*/*/stack.json"))
    if not settings.get("api_url") and not is_kept:
        _warm.append(WarmStack())


def _flags(words: list[str]) -> dict[str, str | None]:
    """Return the flags that say where a cell is."""
    found: dict[str, str | None] = {}
    names = {option: key for key, option in FLAGS.items()}
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in names:
            following = words[place + 1] if place + 1 < len(words) else None
            found[names[option]] = value if equals else following
    return found


def taken() -> WarmStack | None:
    """Return the one that was started, for the first who asks."""
    return _warm.pop() if _warm else None


def end_untaken() -> None:
    """End the one that nobody wanted."""
    warm = taken()
    if warm is not None:
        warm.close()
