"""Stores of one test, and projectors that do not pace themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dtest.projections import projector
from dtest.projections.store import Store
from tests.projections.history import History


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "PAUSE_S_MAX", 0.0)
    monkeypatch.setattr(projector, "CALM_S", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "read-model.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def history() -> History:
    """A cell with a leader and two workers."""
    told = History()
    told.elect()
    told.join("w1")
    told.join("w2")
    return told
