"""How a short-lived process ends: without walking once more through all that it has loaded."""

import atexit
import ctypes
import gc

COUNTED = "__nb_internals"
"""Begins the name under which nanobind keeps what its extensions made."""


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
