"""Runs commands one after the other, for as long as whoever started it lives.

A process of its own, standard library only. Standard input holds the commands as one line of JSON;
its end, before they are done, is the death of the agent: then everything of it is killed.
"""

import json
import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run them; return the first exit status that is not 0."""
    plan = json.loads(_first_line())
    threading.Thread(target=_end_with_agent, daemon=True).start()
    for command in plan:
        print("$ " + " ".join(command["argv"]), flush=True)  # noqa: T201 - it is a log
        try:
            done = subprocess.run(
                command["argv"],
                cwd=command["cwd"],
                env={**os.environ, **command["env"]},  # noqa: TID251 - as the agent gave it
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except OSError as error:
            print(f"it cannot be started: {error}", flush=True)  # noqa: T201 - it is a log
            return 127
        if done.returncode:
            print(f"exit status {done.returncode}", flush=True)  # noqa: T201 - it is a log
            return 1
    return 0


def _first_line() -> bytes:
    """Read the plan, past every buffer: a thread that waits inside of one would break the exit."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 65_536)
        if not more:
            break
        line += more
    return line


def _end_with_agent() -> None:
    while os.read(0, 4_096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
