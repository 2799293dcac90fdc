"""Bytes to facts and back: read as they were written, and nothing makes a reader raise."""

import json
from typing import Any

import orjson
import pytest
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from dtest.events import codec, subject
from dtest.events.catalogue import PAYLOADS, ROLE_OF, WRITTEN_BY, Payload, Role
from dtest.events.envelope import Event, Malformed
from dtest.events.fields import DOCUMENT_BYTES_MAX, EventId, WorkerId
from dtest.events.leader import EventRefused
from dtest.events.reasons import RefusalCode
from dtest.events.task import TaskQueued
from tests.kit import facts
from tests.kit.payloads import JSON, any_of, of
from tests.kit.world import World

TIMES = st.integers(0, 4_000_000_000 * 10**6).map(lambda micros: micros / 1e6)
MANY = settings().max_examples * 3
QUEUED = subject.client(facts.CELL, facts.CLIENT, "task.queued")
STARTED = subject.agent(facts.CELL, WorkerId("w"), "attempt.started")


def events_of(payloads: st.SearchStrategy[Payload]) -> st.SearchStrategy[Event]:
    return st.builds(
        lambda data, name, time, correlation: Event(
            EventId(name), facts.source(data), time, data, correlation
        ),
        payloads,
        st.text(min_size=1, max_size=20),
        TIMES,
        st.none() | st.just("3.14"),
    )


def read(payload: bytes, on: str) -> tuple[Event | Malformed, ...]:
    return codec.decode(payload, subject=on, seq=7, stored_at=facts.START).events


def wire(**more: Any) -> dict[str, Any]:
    """An acceptable ``task.queued`` as a document."""
    data = {"task_id": "t", "type": "command", "config": {"command": ["true"]}}
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "/dtest/main/client/tester",
        "type": "dev.dtest.task.queued.v1",
        "time": "2026-01-02T03:04:05Z",
        "data": {**data, **more.pop("data", {})},
        **more,
    }


def refusal(document: object, on: str = QUEUED) -> Malformed:
    (found,) = read(orjson.dumps(document), on)
    assert isinstance(found, Malformed), found
    return found


# -- there and back -------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_is_encoded_decodes_to_the_same(name: str) -> None:
    @given(events_of(of(PAYLOADS[name])))
    def check(event: Event) -> None:
        assert read(codec.encode([event]), facts.where(event.data)) == (event,)

    check()


@pytest.mark.parametrize("role", WRITTEN_BY)
def test_a_batch_decodes_to_the_same_events_in_the_same_order(role: Role) -> None:
    @given(st.data())
    def check(data: st.DataObject) -> None:
        payload = data.draw(st.sampled_from(WRITTEN_BY[role]))
        batch = data.draw(st.lists(events_of(of(payload)), min_size=1, max_size=4))
        on = facts.where(batch[0].data)
        same_place = [event for event in batch if facts.where(event.data) == on]

        assert read(codec.encode(same_place), on) == tuple(same_place)

    check()


@given(events_of(any_of(PAYLOADS.values())))
def test_what_is_decoded_encodes_to_the_same_bytes(event: Event) -> None:
    payload = codec.encode([event])
    (again,) = read(payload, facts.where(event.data))

    assert isinstance(again, Event)
    assert json.loads(codec.encode([again])) == json.loads(payload)


@given(any_of(PAYLOADS.values()), any_of(PAYLOADS.values()))
def test_a_fingerprint_differs_when_the_content_differs(one: Payload, other: Payload) -> None:
    assert codec.fingerprint(one) == codec.fingerprint(one)
    if orjson.dumps(one) != orjson.dumps(other):
        assert codec.fingerprint(one) != codec.fingerprint(other) or type(one) is not type(other)


def test_a_field_that_holds_its_default_is_not_written() -> None:
    (document,) = [json.loads(codec.encode([World().event(facts.task("t"))]))]

    assert document["data"] == {
        "task_id": "t",
        "type": "command",
        "config": {"command": ["true"]},
    }


@given(events_of(any_of(PAYLOADS.values())))
def test_the_official_cloudevents_library_reads_what_is_written(event: Event) -> None:
    theirs = JSONFormat().read(None, codec.encode([event]))

    assert theirs.get_id() == event.id
    assert theirs.get_source() == event.source
    assert theirs.get_type() == codec.wire_type(event.type)
    assert theirs.get_subject() == event.data.entity_id
    assert theirs.get_specversion() == "1.0"
    assert theirs.get_datacontenttype() == "application/json"
    assert (theirs.get_dataschema() or "").startswith("urn:dtest:schema:")
    when = theirs.get_time()
    assert when is not None
    assert when.timestamp() == event.time
    assert isinstance(theirs.get_data(), dict)
    assert theirs.get_extension("correlationid") == event.correlation


# -- splitting ------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40),
    st.integers(600, 3_000),
)
def test_split_keeps_the_order_and_the_limit(sizes: list[int], bytes_max: int) -> None:
    world = World()
    events = [world.event(facts.task(f"t{n}", name="x" * size)) for n, size in enumerate(sizes)]
    biggest = max(len(codec.encode([event])) for event in events)

    parts = list(codec.split(events, bytes_max=bytes_max))
    again = [read(payload, QUEUED) for _, payload in parts]

    assert [event for part in again for event in part] == events
    assert all(len(payload) <= max(bytes_max, biggest) for _, payload in parts)
    assert [first for first, _ in parts] == [
        part[0].id for part in again if isinstance(part[0], Event)
    ]


def test_split_puts_at_most_a_thousand_events_into_a_message() -> None:
    world = World()
    events = [world.event(facts.task(f"t{n}")) for n in range(2_500)]

    sizes = [len(read(payload, QUEUED)) for _, payload in codec.split(events)]

    assert sizes == [1_000, 1_000, 500]


def test_split_of_nothing_is_nothing() -> None:
    assert list(codec.split([])) == []


# -- nothing raises -------------------------------------------------------------------------

SUBJECTS = st.one_of(
    st.sampled_from(
        [
            QUEUED,
            STARTED,
            subject.epoch(facts.CELL),
            subject.decided(facts.CELL),
            subject.observed(facts.CELL),
            subject.work(facts.CELL, "cpu", WorkerId("w")),
            *(f"dtest.main.{role}.w.{name}" for name, role in ROLE_OF.items()),
        ]
    ),
    st.text(max_size=40),
    st.lists(st.text(max_size=5), max_size=8).map(".".join),
)


@settings(max_examples=MANY)
@given(st.binary(max_size=200), SUBJECTS)
def test_no_bytes_make_a_reader_raise(payload: bytes, on: str) -> None:
    for found in read(payload, on):
        assert isinstance(found, Malformed)


@settings(max_examples=MANY)
@given(JSON | st.lists(JSON, max_size=3), SUBJECTS)
def test_no_json_makes_a_reader_raise(content: object, on: str) -> None:
    for found in read(json.dumps(content).encode(), on):
        assert isinstance(found, Malformed)


@settings(max_examples=MANY)
@given(
    st.sampled_from([*wire(), "correlationid"]),
    st.sampled_from(sorted(PAYLOADS)),
    JSON,
    SUBJECTS,
)
def test_no_cloudevent_with_a_strange_attribute_makes_a_reader_raise(
    attribute: str, name: str, value: object, on: str
) -> None:
    document = wire(type=f"dev.dtest.{name}.v1") | {attribute: value}

    assert len(read(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS), on)) == 1


@given(st.data())
def test_no_payload_with_a_strange_field_makes_a_reader_raise(data: st.DataObject) -> None:
    event = data.draw(events_of(any_of(PAYLOADS.values())))
    document = json.loads(codec.encode([event]))
    field = data.draw(st.sampled_from(sorted(type(event.data).__dataclass_fields__)))
    document["data"][field] = data.draw(JSON)

    (found,) = read(json.dumps(document).encode(), facts.where(event.data))

    assert isinstance(found, Malformed | Event)


@pytest.mark.parametrize("attribute", [*wire(), "correlationid"])
def test_deeply_nested_json_makes_no_reader_raise(attribute: str) -> None:
    text = json.dumps(wire() | {attribute: "HERE"}).replace('"HERE"', "[" * 1000 + "]" * 1000)

    (found,) = read(text.encode(), QUEUED)

    assert isinstance(found, Malformed) or attribute == "correlationid"


# -- each refusal has its case --------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"'t'"])
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    (found,) = read(payload, QUEUED)

    assert isinstance(found, Malformed)
    assert found.code is RefusalCode.NOT_JSON


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in wire().items() if key != name}


@pytest.mark.parametrize(
    "document",
    [
        *(pytest.param(without(name), id=f"no {name}") for name in wire()),
        pytest.param(1, id="a number"),
        pytest.param([], id="an empty batch"),
        pytest.param(["x"], id="a batch of strings"),
        pytest.param(wire(specversion="0.3"), id="another specversion"),
        pytest.param(wire(specversion=1.0), id="specversion as a number"),
        pytest.param(wire(id=""), id="an empty id"),
        pytest.param(wire(id=5), id="an id that is a number"),
        pytest.param(wire(source=None), id="no source"),
        pytest.param(wire(type=["dev.dtest.task.queued.v1"]), id="a list as type"),
        pytest.param(wire(time="yesterday"), id="no instant"),
        pytest.param(wire(time="2026-01-02T03:04:05"), id="an instant without zone"),
        pytest.param(wire(time=1_750_000_000), id="an instant as a number"),
        pytest.param(wire(time="0001-01-01T00:00:00+14:00"), id="before the first year in UTC"),
    ],
)
def test_what_is_no_cloudevent_is_refused(document: object) -> None:
    assert refusal(document).code is RefusalCode.NOT_CLOUDEVENT


@pytest.mark.parametrize(
    "name",
    [
        "dev.dtest.task.exploded.v1",
        "dev.dtest.task.queued.v2",
        "dev.dtest.task.queued.v0",
        "dev.dtest.task.queued",
        "dev.dtest.task.queued.v1\n",
        "com.example.task.queued.v1",
        "",
    ],
)
def test_an_unknown_event_is_refused(name: str) -> None:
    assert refusal(wire(type=name)).code is RefusalCode.UNKNOWN_EVENT


@pytest.mark.parametrize(
    "on",
    [
        subject.client(facts.CELL, facts.CLIENT, "task.cancel_requested"),
        subject.decided(facts.CELL),
        subject.agent(facts.CELL, WorkerId("w"), "task.queued"),
        "dtest.main.output.t.1",
        "elsewhere",
        "x" * 5_000,
    ],
)
def test_an_event_on_a_subject_that_is_not_its_own_is_refused(on: str) -> None:
    assert refusal(wire(), on).code is RefusalCode.WRONG_SUBJECT


@pytest.mark.parametrize("name", PAYLOADS)
def test_each_event_is_refused_on_the_subjects_of_other_roles(name: str) -> None:
    event = World().event(next(iter(samples(PAYLOADS[name]))))
    payload = codec.encode([event])
    for role in {"client", "agent", "scheduler"} - {ROLE_OF[name]}:
        on = subject.decided(facts.CELL) if role == "scheduler" else f"dtest.main.{role}.w.{name}"
        (found,) = read(payload, on)
        assert isinstance(found, Malformed)
        assert found.code is RefusalCode.WRONG_SUBJECT


def samples(payload: type[Payload]) -> list[Payload]:
    """One instance, as hypothesis finds its simplest."""
    found: list[Payload] = []

    @settings(max_examples=1, database=None)
    @given(of(payload))
    def take(data: Payload) -> None:
        found.append(data)

    take()
    return found


@pytest.mark.parametrize(
    ("on", "source"),
    [
        (QUEUED, "/dtest/main/client/somebody-else"),
        (QUEUED, "/dtest/other/client/tester"),
        (QUEUED, "/dtest/main/client/tester/more"),
        (QUEUED, "/dtest/main/scheduler/x"),
        (QUEUED, ""),
    ],
)
def test_a_source_that_does_not_own_the_subject_is_refused(on: str, source: str) -> None:
    assert refusal(wire(source=source), on).code is RefusalCode.FORGED_SOURCE


@pytest.mark.parametrize("name", [name for name, role in ROLE_OF.items() if role == "agent"])
def test_an_agent_speaks_of_its_own_worker_only(name: str) -> None:
    @given(of(PAYLOADS[name]))
    def check(data: Payload) -> None:
        other = WorkerId(f"{facts.speaker(data)}x")
        source = codec.source(facts.CELL, "agent", other)
        payload = codec.encode([Event(EventId("1"), source, facts.START, data)])

        (found,) = read(payload, subject.agent(facts.CELL, other, name))

        assert isinstance(found, Malformed)
        assert found.code is RefusalCode.FORGED_SOURCE

    check()


def test_work_for_one_worker_does_not_stand_on_the_subject_of_another() -> None:
    world = World().led().given(facts.registered("w"), facts.task("t"))
    (assigned,) = world.assign()
    payload = codec.encode([world.event(assigned)])

    (found,) = read(payload, subject.work(facts.CELL, "cpu", WorkerId("other")))

    assert isinstance(found, Malformed)
    assert found.code is RefusalCode.FORGED_SOURCE


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": "60"}, "timeout_seconds"),
        ({"priority": 1001}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"task_id": "two words"}, "task_id"),
        ({"task_id": "t\n"}, "task_id"),
        ({"task_id": "x" * 101}, "task_id"),
        ({"task_id": 5}, "task_id"),
        ({"config": []}, "config"),
        ({"dependencies": "a"}, "dependencies"),
        ({"dependency_rule": "any"}, "dependency_rule"),
        ({"deadline": "2026-01-02T03:04:05"}, "deadline"),
        ({"resources": {"slots": 0}}, "resources.slots"),
        ({"resources": {"devices": 65}}, "resources.devices"),
        ({"requirements": {"hardware": "cuda"}}, "requirements.hardware"),
        ({"requirements": {"min_memory_gb": -1}}, "requirements.min_memory_gb"),
        ({"retry_policy": {"max_retries": 101}}, "retry_policy.max_retries"),
        ({"labels": {"": "x"}}, "labels"),
    ],
)
def test_data_outside_its_limits_is_refused_and_the_field_named(
    data: dict[str, Any], field: str
) -> None:
    found = refusal(wire(data=data))

    assert found.code is RefusalCode.INVALID_DATA
    assert field in found.detail


@pytest.mark.parametrize("data", [None, [], "x", 5, {}])
def test_data_that_is_no_task_is_refused(data: object) -> None:
    assert refusal({**wire(), "data": data}).code is RefusalCode.INVALID_DATA


def test_a_field_that_is_not_known_yet_is_passed_over() -> None:
    (found,) = read(orjson.dumps(wire(data={"from_the_future": 1})), QUEUED)

    assert isinstance(found, Event)


def test_a_message_above_the_limit_is_refused() -> None:
    fits = orjson.dumps(wire(data={"labels": {}})).ljust(codec.MESSAGE_BYTES_MAX)

    (found,) = read(fits, QUEUED)
    (too_large,) = read(fits + b" ", QUEUED)

    assert isinstance(found, Event)
    assert isinstance(too_large, Malformed)
    assert too_large.code is RefusalCode.TOO_LARGE


def test_a_batch_of_more_than_a_thousand_is_refused_whole() -> None:
    batch = [wire(id=str(n), data={"task_id": f"t{n}"}) for n in range(1_001)]

    assert len(read(orjson.dumps(batch[:1_000]), QUEUED)) == 1_000
    assert refusal(batch).code is RefusalCode.TOO_LARGE


def test_a_malformed_event_leaves_its_neighbours_in_a_batch_alone() -> None:
    batch = [wire(id="1"), 5, wire(id="3", data={"task_id": "u"})]

    good, bad, also_good = read(orjson.dumps(batch), QUEUED)

    assert isinstance(good, Event)
    assert isinstance(bad, Malformed)
    assert isinstance(also_good, Event)


# -- what is accepted can be handed on ------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


def test_a_config_that_cannot_be_written_again_is_refused() -> None:
    data = {"type": "custom", "config": nested(300)}

    (found,) = read(json.dumps(wire(data=data)).encode(), QUEUED)

    assert isinstance(found, Malformed)
    assert found.code is RefusalCode.INVALID_DATA


def test_a_config_that_fits_in_a_task_but_in_no_assignment_is_refused() -> None:
    config = {"command": ["x" * 130_000] * 8}
    assert len(orjson.dumps(config)) > DOCUMENT_BYTES_MAX

    assert refusal(wire(data={"config": config})).code is RefusalCode.INVALID_DATA


@pytest.mark.parametrize("depth", [0, 100, 240, 250])
@pytest.mark.parametrize("length", [10, 700_000])
def test_every_accepted_config_fits_in_its_assignment(depth: int, length: int) -> None:
    world = World().led().given(facts.registered("w", facts.machine(task_types=("custom",))))
    config = {**nested(depth), "text": "x" * length}
    record = world.write(
        QUEUED, json.dumps([wire(data={"type": "custom", "config": config})]).encode()
    )
    if isinstance(record.events[0], Event):
        (assigned,) = world.assign()
        assert assigned.config == config
    else:
        assert depth == 250
    assert not world.cell.refusals or depth == 250


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(wire(time="9" * 1_000_000), id="a long time"),
        pytest.param(wire(type="9" * 1_000_000), id="a long type"),
        pytest.param(wire(source="9" * 1_000_000), id="a long source"),
        pytest.param(wire(data={"type": "y" * 1_000_000}), id="a long field"),
        pytest.param(wire(data={"config": {"env": {"k" * 700_000: 5}}}), id="a long key"),
        pytest.param(
            wire(data={"config": {"command": ["x"], "env": {"k" * 700_000: 5}}}), id="env"
        ),
    ],
)
def test_the_refusal_of_anything_is_acceptable_itself(document: dict[str, Any]) -> None:
    world = World().led()
    world.write(QUEUED, orjson.dumps(document))

    (refused,) = world.settle()

    assert isinstance(refused, EventRefused)
    assert not world.cell.refusals
    assert world.cell.refused == 1


@settings(max_examples=MANY)
@given(
    st.lists(st.binary(max_size=30) | JSON.map(lambda x: json.dumps(x).encode()), max_size=5),
    SUBJECTS,
)
def test_each_refusal_is_decided_once(payloads: list[bytes], on: str) -> None:
    world = World().led()
    for payload in payloads:
        world.write(on or "x", payload)
    expected = len(world.cell.refusals)

    world.settle()

    assert world.cell.refused == expected
    assert not world.cell.refusals


def test_a_task_with_a_default_document_is_its_own_object() -> None:
    one, other = TaskQueued(facts.task("a").task_id, "x"), TaskQueued(facts.task("b").task_id, "x")

    assert one.config is not other.config
    assert one.requirements is other.requirements
