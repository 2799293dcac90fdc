"""A supervisor that is started before it is known what is wanted of it.

``python -m dtest.roles.warm``: it loads its code, and has a fork server load that of the roles. A
line on standard input holds the options of ``stack_main.run`` as JSON, with ``log``, the file that
takes over standard output and error. The end of the input without a line ends both.
"""

import importlib
import json
import os
import sys

from dtest.roles.forking import ForkServer
from dtest.runtime.garbage import leave_quickly, loading
from dtest.settings import environment_of_roles


def main() -> None:
    """Load, wait, and run."""
    leave_quickly()
    forks = ForkServer(environment_of_roles())
    with loading():
        stack_main = importlib.import_module("dtest.roles.stack_main")
    line = sys.stdin.buffer.readline()
    if not line:
        forks.close()
        return
    options = json.loads(line)
    log = os.open(options.pop("log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, standard)
    for ours in (nothing, log):
        os.close(ours)
    stack_main.run(**options, forks=forks)


if __name__ == "__main__":
    main()
