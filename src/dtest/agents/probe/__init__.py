"""Finds out what a machine has and can do: ``detect`` asks it, ``declared`` overrides the answer.

It does not measure load, probe WebGPU or WebNN, or run anything on an accelerator.
"""

from dtest.agents.probe.detection import detect
from dtest.agents.probe.machine import LocalMachine, Machine

__all__ = ["LocalMachine", "Machine", "detect"]
