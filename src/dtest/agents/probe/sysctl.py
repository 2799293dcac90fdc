"""Reads macOS's ``sysctl``: what other probes need to know of a Mac, in one call.

It does not interpret the values.
"""

from collections.abc import Mapping

from dtest.agents.probe.machine import Ended, Machine

LIMIT_S = 5.0
_TOPICS = ("hw", "machdep.cpu", "kern.osproductversion", "sysctl.proc_translated")


def read(machine: Machine) -> Mapping[str, str]:
    """Return all values of interest; none of them on other systems."""
    if machine.system != "Darwin":
        return {}
    tool = machine.which("sysctl") or "/usr/sbin/sysctl"
    # A name that this Mac does not have makes the exit code 1; the others are printed all the same.
    answer = machine.run(tool, *_TOPICS, limit_s=LIMIT_S)
    return parse(answer.output) if isinstance(answer, Ended) else {}


def parse(text: str) -> Mapping[str, str]:
    """Return the values of ``name: value`` lines."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}
