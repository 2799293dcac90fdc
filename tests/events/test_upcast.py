"""Old shapes of events are carried up, one step at a time, before anyone else sees them."""

from typing import Any

import orjson
import pytest

from dtest.events import codec, upcast
from dtest.events.catalogue import PAYLOADS, version_of
from dtest.events.envelope import Event, Malformed
from dtest.events.reasons import RefusalCode
from dtest.events.run import RunOpened
from dtest.events.upcast import STEPS, Step

SUBJECT = "dtest.main.client.c.run.opened"


def first(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "steps": [*data.get("steps", []), 1]}


def second(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "steps": [*data.get("steps", []), 2]}


CHAIN: dict[tuple[str, int], Step] = {("a.b", 1): first, ("a.b", 2): second}


@pytest.mark.parametrize(
    ("version", "to_version", "expected"), [(1, 3, [1, 2]), (2, 3, [2]), (1, 2, [1]), (3, 3, None)]
)
def test_steps_are_taken_in_order_from_the_written_version_on(
    version: int, to_version: int, expected: list[int] | None
) -> None:
    carried = upcast.upcast("a.b", version, {"x": 1}, to_version=to_version, steps=CHAIN)

    assert carried == ({"x": 1} if expected is None else {"x": 1, "steps": expected})


def test_a_missing_step_is_an_error_for_the_caller() -> None:
    with pytest.raises(KeyError):
        upcast.upcast("a.b", 1, {}, to_version=4, steps=CHAIN)


def test_a_step_does_not_change_what_it_is_given() -> None:
    data = {"x": 1}
    upcast.upcast("a.b", 1, data, to_version=3, steps=CHAIN)

    assert data == {"x": 1}


def test_each_older_version_has_its_step() -> None:
    older = {
        (name, version)
        for name, payload in PAYLOADS.items()
        for version in range(1, version_of(payload))
    }
    assert set(STEPS) == older


def test_what_an_older_limit_refused_stays_refused() -> None:
    step = STEPS["testcase.finished", 1]

    assert step({"nodeid": "x" * 4_096})["nodeid"] == "x" * 4_096
    assert step({"nodeid": "x" * 4_097})["nodeid"] is None
    assert step({"nodeid": 7}) == {"nodeid": 7}


def read(version: int, data: object) -> Event | Malformed:
    document = {
        "specversion": "1.0",
        "id": "1",
        "source": "/dtest/main/client/c",
        "type": f"dev.dtest.run.opened.v{version}",
        "time": "2026-01-02T03:04:05Z",
        "data": data,
    }
    (found,) = codec.decode(orjson.dumps(document), subject=SUBJECT, seq=1, stored_at=0.0).events
    return found


@pytest.fixture
def version_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world in which ``run.opened`` was once written with another name for its id."""
    uncached = codec._known.__wrapped__  # noqa: SLF001 - what it remembers is of version 1
    monkeypatch.setattr(codec, "_known", uncached)
    monkeypatch.setattr(codec, "version_of", lambda payload: 1 + (payload is RunOpened))
    monkeypatch.setitem(
        STEPS, ("run.opened", 1), lambda data: {"run_id": data["run"], "name": data["name"]}
    )


def test_the_codec_reads_an_old_event_as_the_latest(version_2: None) -> None:
    found = read(1, {"run": "r", "name": "n"})

    assert isinstance(found, Event)
    assert found.data.entity_id == "r"


@pytest.mark.parametrize("data", [None, [], "x", {}, {"name": "n"}])
def test_old_data_that_no_step_understands_is_refused(version_2: None, data: object) -> None:
    found = read(1, data)

    assert isinstance(found, Malformed)
    assert found.code in {RefusalCode.INVALID_DATA, RefusalCode.UNKNOWN_EVENT}


def test_an_old_event_without_a_step_is_refused(
    version_2: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(STEPS, ("run.opened", 1))

    found = read(1, {"run_id": "r"})

    assert isinstance(found, Malformed)
    assert found.code is RefusalCode.UNKNOWN_EVENT
