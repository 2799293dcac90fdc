"""Write one JSON line per test case while pytest runs, from inside the interpreter under test.

It neither restarts anything nor decides what a whole session is worth: that is for the script that
started pytest and told this plugin, in a request file, what to select and where to write. It never
imports dtest, because the foreign interpreter has only pytest (7.0 or later) and Python 3.8 or
later. PYTEST_DONT_REWRITE: it has no assertion to explain, so nothing is to be recompiled.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import sys

import pytest
from dtest_pytest_feed import Feeding
from dtest_pytest_recorder import Recorder
from dtest_pytest_request import Request
from dtest_world import World

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
REQUEST_ENV = "DTEST_PYTEST_CASES"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Take up the request; pytest calls this first, before any conftest file is loaded."""
    request_file = os.environ.pop(REQUEST_ENV, None)
    if request_file is None:
        return
    with open(request_file, encoding="utf-8") as stream:
        request: Request = json.load(stream)
    World.own_pid = os.getpid()
    _restore_import_path(request["pythonpath"])
    if not hasattr(pytest, "version_tuple"):
        message = f"dtest needs pytest >= 7.0 but {sys.executable} has {pytest.__version__}; "
        raise pytest.UsageError(f"{message}run: {sys.executable} -m pip install --upgrade pytest")
    if pluginmanager.is_blocked("cacheprovider"):
        # The session always sets cache_dir, and an unknown setting fails under --strict-config.
        parser.addini("cache_dir", "set by the session, unused without the cache provider")
    atexit.register(_leave_quickly)
    recorder = Recorder(request)
    pluginmanager.register(recorder, "dtest_pytest_cases_recorder")
    if request["feed"] is not None and request["done"] is not None:
        feeding = Feeding(request["feed"], request["done"], recorder, collects=request["collect"])
        pluginmanager.register(feeding, "dtest_pytest_feed")


def _restore_import_path(pythonpath: str | None) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    if pythonpath is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = pythonpath


def _leave_quickly() -> None:
    """Leave out the search for garbage that follows all functions of ``atexit``.

    It walks through all that the suite has loaded, for some tenths of a second, and finds what
    can no longer matter. Where an extension of nanobind is loaded it is left to run: those count
    what is left, and complain.
    """
    api = ctypes.pythonapi
    try:
        api.PyInterpreterState_Get.restype = ctypes.c_void_p
        api.PyInterpreterState_GetDict.argtypes = [ctypes.c_void_p]
        api.PyInterpreterState_GetDict.restype = ctypes.c_void_p  # borrowed
        place = api.PyInterpreterState_GetDict(api.PyInterpreterState_Get())
    except AttributeError:  # Python 3.8, PyPy
        return
    kept: dict[object, object] = ctypes.cast(place, ctypes.py_object).value
    if not any(str(name).startswith("__nb_internals") for name in kept):
        gc.freeze()
