"""Starts a role's process ahead of its time: it loads its code, then waits for a word.

``python -m dtest.roles.held MODULE [ARGUMENT...]``. Loading is most of a start, and needs no
broker: a line on standard input lets the role begin, the end of it without a line ends the process.
"""

import importlib
import os
import sys

from dtest.runtime.garbage import leave_quickly, loading


def main() -> None:
    """Load the module, wait, and run its ``main``."""
    leave_quickly()
    with loading():
        module = importlib.import_module(sys.argv[1])
    sys.argv = sys.argv[1:]
    word = sys.stdin.buffer.readline()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if word:
        module.main()


if __name__ == "__main__":
    main()
