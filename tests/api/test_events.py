"""Events over HTTP and WebSocket: all of them, in order, from anywhere."""

import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.kit.stack import Api, RunningStack, never, simulated

# -- the list -------------------------------------------------------------------------------------


def test_events_are_listed_newest_first(api: Api) -> None:
    answer = api.submit(never(), never())

    page = api.get("/api/events", after=answer["seq"], limit=50)

    places = [(event["seq"], event["idx"]) for event in page["items"]]
    assert places == sorted(places, reverse=True)
    queued = [event for event in page["items"] if event["seq"] == answer["seq"]]
    assert [event["entity"] for event in queued] == [
        task["task_id"] for task in reversed(answer["tasks"])
    ]
    assert queued[0]["data"]["type"] == "command", "the data is JSON, not text"
    assert queued[0]["type"] == "task.queued"
    assert queued[0]["source"] == "/dtest/main/client/api"
    assert queued[0]["stored_at"].endswith("Z")


def test_events_are_filtered_by_type_entity_and_refusal(api: Api) -> None:
    answer = api.submit(
        never(task_id="event-good"), never(task_id="event-bad", dependencies=["no-such-task"])
    )
    seq = answer["seq"]

    queued = api.items("/api/events", type="task.queued", after=seq)
    assert {"event-good", "event-bad"} <= {event["entity"] for event in queued}
    assert {event["type"] for event in queued} == {"task.queued"}
    two = api.items("/api/events", type=["run.opened", "leader.elected"])
    assert {event["type"] for event in two} == {"run.opened", "leader.elected"}
    (bad,) = api.items("/api/events", entity="event-bad", refused=True)
    assert bad["refusal"].startswith("unknown_dependency")
    assert api.items("/api/events", entity="event-good", refused=True) == []
    (good,) = api.items("/api/events", entity="event-good", refused=False)
    assert good["refusal"] is None


def test_every_event_of_the_journal_is_in_the_list(api: Api) -> None:
    seq = api.submit(never(), never(), never())["seq"]

    items = api.items("/api/events", limit=1000, after=seq)

    assert {event["seq"] for event in items} >= set(range(1, seq + 1))
    assert len({(event["seq"], event["idx"]) for event in items}) == len(items)


# -- the stream -----------------------------------------------------------------------------------


def test_the_stream_gives_every_message_from_the_start(api: Api) -> None:
    last = api.submit(never(), never())["seq"]

    with api.stack.events(0) as stream:
        messages = [stream.message() for _ in range(last)]

    assert [message["seq"] for message in messages] == list(range(1, last + 1))
    assert messages[-1]["subject"] == "dtest.main.client.api.task.queued"
    assert [event["specversion"] for event in messages[-1]["events"]] == ["1.0", "1.0"]
    assert len(messages[-1]["events"]) == 2


def test_the_stream_begins_where_it_is_asked_to(api: Api) -> None:
    first = api.post("/api/tasks/submit", never())["seq"]
    second = api.post("/api/tasks/submit", never())["seq"]

    with api.stack.events(first) as stream:
        assert stream.message()["seq"] == first + 1
    with api.stack.events(second - 1) as stream:
        assert stream.message()["seq"] == second


def test_the_stream_goes_on_with_what_comes(api: Api) -> None:
    last = api.get("/api/health/db")["journal_seq"]

    with api.stack.events(last, "task.queued") as stream:
        for _ in range(3):
            answer = api.post("/api/tasks/submit", never())
            message = stream.message()
            assert message["seq"] == answer["seq"]
            assert message["events"][0]["subject"] == answer["tasks"][0]["task_id"]


@pytest.mark.parametrize("after", [10**9, 2**63, 10**40])
def test_a_stream_from_beyond_the_end_begins_at_the_end(api: Api, after: int) -> None:
    with api.stack.events(after, "task.queued") as stream:
        answer = api.post("/api/tasks/submit", never())

        assert stream.message()["seq"] == answer["seq"]


def test_the_stream_is_filtered_by_type(api: Api) -> None:
    answer = api.submit(*[simulated(task_id=f"typed-{n}") for n in range(3)])
    wanted = {f"typed-{n}" for n in range(3)}

    with api.stack.events(answer["seq"] - 2, "attempt.finished", "run.*") as stream:
        seen: list[str] = []
        finished: set[str] = set()
        while finished < wanted:
            for event in stream.message()["events"]:
                seen.append(event["type"])
                finished |= {event["subject"]} & wanted

    assert set(seen) == {"dev.dtest.attempt.finished.v1", "dev.dtest.run.opened.v1"}


@pytest.mark.parametrize("after", ["x", "1.5", "", "0x10", "9" * 5000])
def test_a_stream_from_nowhere_is_closed_with_the_reason(stack: RunningStack, after: str) -> None:
    with stack.events(after) as stream, pytest.raises(ConnectionClosed) as closed:  # type: ignore[arg-type]
        stream.message()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert "sequence number" in closed.value.rcvd.reason


@pytest.mark.parametrize("said", ["hello", b"\x00\xff", "x" * 100_000])
def test_what_a_reader_says_changes_nothing(api: Api, said: str | bytes) -> None:
    with api.stack.events(0) as stream:
        stream.socket.send(said)

        assert stream.message()["seq"] == 1
        answer = api.post("/api/tasks/submit", never())
        while stream.message()["seq"] < answer["seq"]:
            continue


def test_many_readers_see_the_same(api: Api) -> None:
    last = api.post("/api/tasks/submit", never())["seq"]
    seen = []

    for _ in range(5):
        with api.stack.events(max(0, last - 10)) as stream:
            seen.append([json.dumps(stream.message()) for _ in range(min(10, last))])

    assert len({str(messages) for messages in seen}) == 1


def test_a_plain_request_to_the_stream_is_no_stream(api: Api) -> None:
    answer = api.http.get("/api/events/stream")

    assert answer.status_code == httpx.codes.NOT_FOUND
    assert set(answer.json()) == {"error"}
