"""Starts a role's process ahead of its time: it loads its code, then waits for a word.

``python -P -m dtest.roles.held MODULE [ARGUMENT...]``. Loading is most of a start, and needs no
broker: a line on standard input lets the role begin, the end of it without a line ends the process.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from dtest.runtime.garbage import leave_quickly, loading


def begin(module: str, arguments: Sequence[str]) -> None:
    """Load the module, wait, and run its ``main``."""
    with loading():
        role = importlib.import_module(module)
    sys.argv = [module, *arguments]
    word = sys.stdin.buffer.readline()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if word:
        role.main()


if __name__ == "__main__":
    leave_quickly()
    begin(sys.argv[1], sys.argv[2:])
