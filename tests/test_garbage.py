"""Processes that load and leave quickly: what they have to do at the end is still done."""

import gc
import importlib
import subprocess
import sys

import pytest

from dtest.runtime.garbage import loading

BEGIN = """
import atexit, gc, weakref
atexit.register(lambda: print("first", gc.get_freeze_count() > 0))
from dtest.runtime.garbage import leave_quickly
leave_quickly()
atexit.register(lambda: print("later", gc.get_freeze_count() > 0))
class Held: pass
held = Held()
weakref.finalize(held, print, "finalized")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run a process that leaves quickly."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, check=False
    )


def test_all_that_is_to_be_done_at_exit_is_done() -> None:
    ended = run("import sys; sys.exit(7)")

    assert ended.returncode == 7
    assert ended.stdout.split("\n") == ["finalized", "later False", "first True", ""]
    assert not ended.stderr


@pytest.mark.parametrize("code", ["import duckdb", "import duckdb; duckdb.connect()"])
def test_extensions_that_count_what_is_left_find_nothing_to_complain_of(code: str) -> None:
    ended = run(code)

    assert "first False" in ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


def test_garbage_is_looked_for_again_once_code_is_loaded_or_was_not_found() -> None:
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()

    with pytest.raises(ModuleNotFoundError), loading():
        importlib.import_module("dtest.not_there")
    assert gc.isenabled()
