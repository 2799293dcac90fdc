"""docs/publishing.md does what it says: its programs run, on the other side of a real broker."""

import asyncio
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest
from jsonschema import Draft202012Validator
from nats.aio.msg import Msg

from dtest.events import codec, subject
from dtest.events.envelope import Event
from dtest.events.fields import DOCUMENT_BYTES_MAX, CellId, ClientId
from dtest.events.schema import event_schema
from dtest.journal.streams import SECOND_NS, Limits, stream_configs
from tests.interop.conftest import MANIFEST, PROGRAM_S_MAX, Node, needed
from tests.kit.markdown import DOCS, blocks, blocks_in

PAGE = "publishing.md"
QUEUED = subject.client(CellId("main"), ClientId("docs"), "task.queued")
STREAM = "dtest-main-journal"


def types_of(seen: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("dev.dtest.").removesuffix(".v1") for event in seen]


def documents(text: str) -> list[Any]:
    """JSON documents that stand one after the other."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while text[place:].strip():
        start = place + len(text[place:]) - len(text[place:].lstrip())
        content, place = decoder.raw_decode(text, start)
        found.append(content)
    return found


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    journal = stream_configs(CellId("main"), Limits())[0]

    assert f"({codec.MESSAGE_BYTES_MAX:,} bytes)" in text
    assert f"at most\n  {codec.EVENTS_PER_MESSAGE_MAX:,} events" in text
    assert f"at most {DOCUMENT_BYTES_MAX:,} bytes as JSON" in text
    assert f"within {journal['duplicate_window'] // (60 * SECOND_NS)} minutes" in text


@pytest.fixture
def example() -> dict[str, Any]:
    content = json.loads(blocks_in(PAGE, "json")[0])
    assert isinstance(content, dict)
    return content


def test_no_code_block_goes_without_a_test() -> None:
    counted = Counter(block.language for block in blocks(PAGE))

    assert counted == {"json": 3, "js": 3, "bash": 4}


def test_the_packages_that_the_page_names_are_those_installed() -> None:
    installed = json.loads(MANIFEST.read_text(encoding="utf-8"))["dependencies"]

    assert installed == {"@nats-io/jetstream": "3.4.0", "@nats-io/transport-node": "3.4.0"}
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    assert "Needs `@nats-io/transport-node` and `@nats-io/jetstream`, both 3.4.0." in text


def test_the_example_event_is_accepted(example: dict[str, Any]) -> None:
    Draft202012Validator(event_schema("task.queued")).validate(example)

    payload = json.dumps(example).encode()
    read = codec.decode(payload, subject=QUEUED, seq=1, stored_at=0.0).events

    assert [type(event) for event in read] == [Event]


@pytest.mark.node
def test_node_submits_by_nats_and_follows_its_task_to_the_end(node: Node) -> None:
    result = node.run("nats.mjs", blocks_in(PAGE, "js")[0])

    assert result["ack"]["stream"] == STREAM
    assert not result["ack"]["duplicate"]
    assert result["again"] == {**result["ack"], "duplicate": True}
    seen = result["seen"]
    assert types_of(seen) == ["task.queued", "attempt.assigned", "attempt.finished"]
    assert [event["data"]["task_id"] for event in seen] == [result["task_id"]] * 3
    assert seen[0]["seq"] == result["ack"]["seq"]
    assert seen[0]["subject"] == QUEUED
    assert seen[1]["subject"] == "dtest.main.work.cpu.sim-cpu-0"
    assert seen[2]["subject"] == "dtest.main.agent.sim-cpu-0.attempt.finished"
    assert seen[2]["data"]["outcome"] == "passed"
    assert result["refused"] is None


@pytest.mark.node
def test_node_learns_why_its_event_was_refused(node: Node) -> None:
    task = {"type": "command", "config": {"simulate": {"seconds": 0}}}

    result = node.run("refused.mjs", blocks_in(PAGE, "js")[0], json.dumps(task))

    refused = result["refused"]
    assert (refused["refused_seq"], refused["index"]) == (result["ack"]["seq"], 0)
    assert refused["code"] == "invalid_data"
    assert "config.command" in refused["detail"]
    assert types_of(result["seen"]) == ["task.queued"]


@pytest.mark.node
def test_node_submits_by_http_and_follows_by_websocket(node: Node) -> None:
    result = node.run("http.mjs", blocks_in(PAGE, "js")[2])

    assert result["again"] == result["submitted"]
    assert result["submitted"]["tasks"][0]["status"] == "accepted"
    seen = result["seen"]
    assert types_of(seen) == ["task.queued", "attempt.assigned", "attempt.finished"]
    assert seen[0]["seq"] == result["submitted"]["seq"]
    assert result["result"]["status"] == "passed"
    assert [attempt["status"] for attempt in result["result"]["attempts"]] == ["passed"]


def test_a_shell_needs_curl_and_nothing_else(cell_env: dict[str, str], tmp_path: Path) -> None:
    needed("curl")
    login, submit, *reading = blocks_in(PAGE, "bash")

    ended = subprocess.run(
        [needed("bash"), "-euo", "pipefail", "-c", "\n".join([login, submit, submit, *reading])],
        env=cell_env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S_MAX,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    submitted, again, task, events, refused = documents(ended.stdout)
    assert again == submitted
    assert submitted["tasks"][0] == {
        "task_id": task["task_id"],
        "status": "accepted",
        "code": None,
        "detail": None,
        "note": "",
    }
    assert task["as_of_seq"] >= submitted["seq"]
    assert "task.queued" in {event["type"] for event in events["items"]}
    assert refused["seq"] >= submitted["seq"]
    assert (tmp_path / "token.txt").stat().st_mode & 0o077 == 0


async def test_plain_requests_are_enough_to_submit_and_follow(
    cell_env: dict[str, str], example: dict[str, Any]
) -> None:
    example["id"] = str(uuid4())
    example["data"]["task_id"] = f"plain-{uuid4()}"
    create, pull = (json.loads(text) for text in blocks_in(PAGE, "json")[1:])
    name = create["config"]["name"]
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    client = await nats.connect(
        cell_env["DTEST_NATS_URL"],
        user=cell_env["DTEST_NATS_USER"],
        password=cell_env["DTEST_NATS_PASSWORD"],
    )
    try:
        body = json.dumps(example).encode()
        answer = await client.request(QUEUED, body, headers={"Nats-Msg-Id": example["id"]})
        ack = json.loads(answer.data)
        create["config"]["opt_start_seq"] = ack["seq"]
        where = f"{STREAM}.{name}"
        request = json.dumps(create).encode()
        made = await client.request(f"$JS.API.CONSUMER.CREATE.{where}", request)
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=arrived.put)
        await client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{where}", json.dumps(pull).encode(), reply=inbox
        )
        first = await asyncio.wait_for(arrived.get(), PROGRAM_S_MAX)
        dropped = await client.request(f"$JS.API.CONSUMER.DELETE.{where}", b"")
    finally:
        await client.close()

    assert ack["stream"] == STREAM
    assert "error" not in ack
    assert "error" not in json.loads(made.data)
    assert (first.subject, first.data) == (QUEUED, body)
    assert json.loads(dropped.data)["success"]
