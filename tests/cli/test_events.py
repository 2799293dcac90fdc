"""``dtest event`` and ``dtest db``: the journal and the read model at the prompt."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dtest.events.catalogue import PAYLOADS
from tests.cli.cell import CellUser, command, impossible
from tests.cli.command import eventually, interrupt

NewId = Callable[[str], str]


def queued(task: str, **more: Any) -> str:
    return json.dumps({"task_id": task, **command("true", **more)})


def test_a_tail_shows_what_comes_from_now_on(cell: CellUser, new_id: NewId) -> None:
    earlier = cell.run_of(command("true"))

    with cell.started("event", "tail", "run.opened", "--count", "1", "--json") as tail:
        later: list[str] = []

        def told_of_one_more() -> bool:
            later.append(cell.run_of(command("true")))
            return tail.poll() is not None

        eventually(told_of_one_more, what="the tail saw a run")
        out, _ = tail.communicate()

    seen = json.loads(out)["event"]["data"]["run_id"]
    assert seen != earlier
    assert seen in later


def test_a_tail_begins_where_it_is_told_to(cell: CellUser) -> None:
    last = cell.here("status", "--json").json["journal"]["last_seq"]
    cell.submit(command("true")).good()

    out = cell.dtest("event", "tail", "--after", str(last), "--count", "2").good().out

    assert [line.split(".")[0] for line in out.splitlines()] == [str(last + 1), str(last + 2)]
    assert "run.opened" in out


def test_a_tail_is_picked_by_type(cell: CellUser) -> None:
    tail = ("event", "tail", "worker.*", "--after", "0", "--count", "2", "--json")

    types = [line["event"]["type"] for line in cell.dtest(*tail).good().lines]

    assert types == ["dev.dtest.worker.registered.v1"] * 2


def test_a_tail_ends_with_its_reader(cell: CellUser) -> None:
    with cell.started("event", "tail", "--after", "0") as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline()
        tail.stdout.close()

        assert tail.wait(timeout=30) == 0
        assert tail.stderr is not None
        assert not tail.stderr.read()


def test_a_listing_whose_reader_left_is_quiet(cell: CellUser) -> None:
    with cell.started("event", "schema") as listing:
        assert listing.stdout is not None
        listing.stdout.close()

        assert listing.wait(timeout=30) == 0
        assert listing.stderr is not None
        assert not listing.stderr.read()


def test_a_tail_is_ended_by_ctrl_c(cell: CellUser) -> None:
    with cell.started("event", "tail", "--after", "0") as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline()

        ended = interrupt(tail)

    assert ended.code == 130
    assert not ended.err


def test_a_published_task_runs(cell: CellUser, new_id: NewId) -> None:
    task = new_id("published")

    ended = cell.here("event", "publish", "task.queued", "-", "--json", stdin=queued(task)).good()

    assert ended.json["events"] == 1
    shown = cell.here("event", "show", str(ended.json["seq"]), "--json").json
    assert shown["events"][0]["data"]["task_id"] == task
    assert shown["malformed"] == []
    eventually(lambda: not cell.here("run", "show", "adhoc").code, what="the run is projected")
    assert cell.here("run", "watch", "adhoc").code == 0
    assert cell.here("task", "show", task, "--json").json["status"] == "passed"


def test_several_events_are_published_from_a_file(
    cell: CellUser, new_id: NewId, tmp_path: Path
) -> None:
    tasks = [new_id("a"), new_id("b")]
    run = new_id("run")
    file = tmp_path / "tasks.json"
    file.write_text(f"[{','.join(queued(task, run_id=run) for task in tasks)}]")

    ended = cell.here("event", "publish", "task.queued", str(file)).good()

    assert "2 recorded" in ended.err
    eventually(lambda: run in cell.here("run", "ls").out, what="the run is projected")
    assert cell.here("run", "watch", run).code == 0


def test_a_refused_event_is_told_of_by_the_journal(cell: CellUser) -> None:
    body = json.dumps({"task_id": "no-such-task"})
    seq = cell.here("event", "publish", "task.cancel_requested", "--json", stdin=body).json["seq"]

    tail = ("event", "tail", "event.refused", "--after", str(seq), "--count", "1", "--json")
    refused = cell.dtest(*tail).good().json["event"]["data"]

    assert refused["refused_seq"] == seq
    assert refused["code"] == "unknown_task"


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_every_event_has_a_schema_that_is_one(cell: CellUser, name: str) -> None:
    schema = cell.here("event", "schema", name, "--json").json

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == name


def test_every_event_is_listed_with_who_writes_it_and_what_it_means(cell: CellUser) -> None:
    listed = cell.here("event", "schema", "--json").good().lines

    assert [line["type"] for line in listed] == sorted(PAYLOADS)
    assert all(line["meaning"].endswith(".") for line in listed)


def test_a_good_journal_is_verified(cell: CellUser) -> None:
    cell.submit(command("true"), command("false"))

    ended = cell.dtest("event", "verify", "--json").good()

    assert ended.json["violations"] == []
    assert ended.json["decisions"] > 0
    assert ended.json["last_seq"] - ended.json["first_seq"] + 1 == ended.json["messages"]
    assert "all holds" in cell.here("event", "verify").good().err


def test_a_replay_shows_the_state_as_it_was(cell: CellUser, new_id: NewId) -> None:
    task = new_id("replayed")
    before = cell.here("event", "replay", "--json").good().json
    cell.submit(command("true", task_id=task)).good()

    after = cell.here("event", "replay", "--json").good().json
    again = cell.here("event", "replay", "--to", str(before["seq"]), "--json").good().json

    assert after["tasks"]["passed"] == before["tasks"].get("passed", 0) + 1
    assert again == before


def test_a_replay_goes_to_an_instant(cell: CellUser) -> None:
    seq = cell.run_of(command("true")) and cell.here("status", "--json").json["projected_seq"]
    cell.here("run", "watch").good()
    stored_at = cell.here("event", "show", str(seq), "--json").json["stored_at"]

    found = cell.here("event", "replay", "--to", _rfc3339(stored_at), "--json").good().json
    nothing = cell.here("event", "replay", "--to", "2020-01-01T00:00:00Z", "--json").good().json

    assert found["seq"] == seq
    assert nothing["seq"] == 0


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def test_a_replayed_state_can_be_printed_whole(cell: CellUser, new_id: NewId) -> None:
    task = new_id("whole")
    cell.submit(impossible(task_id=task), options=()).good()
    eventually(
        lambda: task in cell.here("event", "replay", "--state").good().out,
        what="the task is in the state",
    )
    cell.here("task", "cancel", task).good()


def test_the_read_model_answers_sql(cell: CellUser, new_id: NewId) -> None:
    task = new_id("sql")
    cell.submit(command("true", task_id=task)).good()
    sql = "SELECT task_id, status FROM tasks ORDER BY seq DESC LIMIT 1"

    rows = cell.here("db", "query", sql, "--json").good().lines
    text = cell.here("db", "query", sql).good().out

    assert rows == [{"task_id": task, "status": "passed"}]
    assert text == f"task_id\tstatus\n{task}\tpassed\n"


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE tasks",
        "SELECT 1; SELECT 2",
        "COPY tasks TO '/tmp/stolen.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "INSERT INTO runs SELECT * FROM runs",
        "ATTACH '/tmp/other.duckdb'",
    ],
)
def test_the_read_model_cannot_be_changed_or_left(cell: CellUser, sql: str) -> None:
    ended = cell.here("db", "query", sql)

    assert ended.code == 2
    assert not ended.out


def test_the_same_idempotency_key_submits_once(cell: CellUser, new_id: NewId) -> None:
    words = ("submit", "-", "--json", "--idempotency-key", new_id("key"))
    body = json.dumps([command("true"), command("true")])

    first = cell.here(*words, stdin=body).good().lines[0]
    second = cell.here(*words, stdin=body).good().lines[0]

    assert second["run_id"] == first["run_id"]
    assert [task["task_id"] for task in second["tasks"]] == [
        task["task_id"] for task in first["tasks"]
    ]


@pytest.mark.parametrize("form", ["one", "array", "lines", "run"])
def test_a_submission_may_have_several_forms(cell: CellUser, form: str) -> None:
    document = json.dumps(command("true"))
    texts = {
        "one": document,
        "array": f"[{document}]",
        "lines": f"{document}\n\n{document}\n",
        "run": f'{{"name": "named", "tasks": [{document}]}}',
    }

    ended = cell.here("submit", "-", "--json", stdin=texts[form]).good()

    assert len(ended.lines[0]["tasks"]) == (2 if form == "lines" else 1)


def test_submitted_ids_are_printed_for_other_programs(cell: CellUser, new_id: NewId) -> None:
    tasks = [new_id("x"), new_id("y")]

    ended = cell.submit(*(command("true", task_id=task) for task in tasks), options=()).good()

    assert ended.out.split() == tasks
