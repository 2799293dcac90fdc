"""When a process looks for garbage: not while it loads its code, and not when it ends.

Most of what is loaded stays; looking through it again and again takes a tenth of the time.
"""

import atexit
import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

COUNTED = "__nb_internals"
"""Begins the name under which nanobind keeps what its extensions made."""


SELDOM = (50_000, 10, 10)
"""Thresholds of a short call: most end before the first search."""


def collect_seldom() -> None:
    """Look for garbage seldom, as befits a process that soon ends."""
    gc.set_threshold(*SELDOM)


@contextmanager
def loading() -> Iterator[None]:
    """Look for no garbage in a block that loads code."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leave_quickly() -> None:
    """Leave out the search for garbage that follows the functions of ``atexit``.

    For a process that has loaded much it takes as long as a short call. What it would find can no
    longer matter, except to extensions of nanobind: those count what is left, and complain.
    """
    atexit.register(_freeze)


def _freeze() -> None:
    if not _is_counted():
        gc.freeze()


def _is_counted() -> bool:
    """Say whether an extension of nanobind is loaded; such keep a note in the interpreter."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = ctypes.c_void_p
    api.PyInterpreterState_GetDict.argtypes = [ctypes.c_void_p]
    api.PyInterpreterState_GetDict.restype = ctypes.c_void_p  # borrowed
    kept = ctypes.cast(
        api.PyInterpreterState_GetDict(api.PyInterpreterState_Get()), ctypes.py_object
    )
    return any(str(name).startswith(COUNTED) for name in kept.value)
