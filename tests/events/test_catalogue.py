"""The catalogue: every event once, documented, frozen and small."""

import dataclasses
import inspect
import pkgutil
import re
from importlib import import_module

import pytest

import dtest.events
from dtest.events.catalogue import PAYLOADS, ROLE_OF, WRITTEN_BY, Payload, version_of
from dtest.events.codec import wire_type
from dtest.events.reasons import MEANINGS, Reason, RefusalCode

ALL = sorted(PAYLOADS.values(), key=lambda payload: payload.TYPE)


def defined() -> set[type]:
    """Every class of the package that says it is an event."""
    modules = [
        import_module(f"dtest.events.{module.name}")
        for module in pkgutil.iter_modules(dtest.events.__path__)
    ]
    return {
        item
        for module in modules
        for _, item in inspect.getmembers(module, inspect.isclass)
        if dataclasses.is_dataclass(item) and "TYPE" in vars(item)
    }


def test_every_event_has_a_row_in_the_catalogue() -> None:
    assert defined() == set(PAYLOADS.values())


def test_every_event_is_written_by_one_role() -> None:
    everyone = [payload for payloads in WRITTEN_BY.values() for payload in payloads]

    assert len(everyone) == len(set(everyone)) == len(PAYLOADS) == len(ROLE_OF)


@pytest.mark.parametrize("payload", ALL, ids=lambda payload: payload.TYPE)
def test_an_event_says_in_words_what_happened(payload: type[Payload]) -> None:
    text = payload.__doc__ or ""

    assert text.split("\n")[0].rstrip().endswith(".")
    assert not text.startswith(f"{payload.__name__}(")


@pytest.mark.parametrize("payload", ALL, ids=lambda payload: payload.TYPE)
def test_an_event_is_a_frozen_fact_with_a_name_of_its_entity(payload: type[Payload]) -> None:
    assert payload.__dataclass_params__.frozen  # type: ignore[union-attr]
    assert hasattr(payload, "__slots__")
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", payload.TYPE)
    assert wire_type(payload.TYPE) == f"dev.dtest.{payload.TYPE}.v{version_of(payload)}"


@pytest.mark.parametrize("payload", ALL, ids=lambda payload: payload.TYPE)
def test_an_event_names_its_entity_first(payload: type[Payload]) -> None:
    first = dataclasses.fields(payload)[0].name
    expected = {
        "event.refused": "refused_seq",
        "leader.elected": "leader_id",
        "policy.changed": "ranking",
        "suite.listed": "digest",
    }

    assert first.endswith("_id") or expected.get(payload.TYPE) == first


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_only_the_policy_of_its_task_repeats_what_a_test_said(reason: Reason) -> None:
    meaning = MEANINGS[reason]

    if meaning.family in {"test", "limit"}:
        assert meaning.retry == "policy"
    if meaning.retry == "policy":
        assert meaning.blame == "test"


@pytest.mark.parametrize("reason", list(Reason))
def test_what_the_infrastructure_did_is_never_left_to_the_policy_of_a_task(reason: Reason) -> None:
    meaning = MEANINGS[reason]

    if meaning.family in {"worker", "device", "service"}:
        assert meaning.retry in {"elsewhere", "preempted"}
        assert meaning.blame in {"worker", "device", "service"}


def test_codes_are_words() -> None:
    for code in [*Reason, *RefusalCode]:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
