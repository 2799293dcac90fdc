"""Answers: data on standard output, JSON where asked for, tables only for eyes."""

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.cli.cell import CellUser, command
from tests.cli.command import AGENT, DTEST, Person, interrupt

ONE_DOCUMENT = {
    "status": {"cell", "epoch", "leader_id", "workers", "tasks", "journal", "projected_seq"},
    "run show {run}": {"run_id", "tasks", "passed", "finished", "task_list", "testcases"},
    "run watch {run}": {"run_id", "passed", "finished"},
    "task show {task}": {"task_id", "status", "attempts", "testcases", "document"},
    "why {task}": {"task_id", "status", "reasons"},
    "worker show local-1": {"worker_id", "simulated", "capability", "attempts"},
    "event show 1": {"seq", "subject", "stored_at", "events", "malformed"},
    "event schema task.queued": {"$id", "title", "properties"},
    "event verify": {"messages", "tasks_accepted", "tasks_open", "decisions", "violations"},
    "event replay --to 3": {"seq", "epoch", "tasks", "workers", "refused"},
    "event replay --state": {"format", "version", "seq", "tasks", "workers"},
    "policy show": {"ranking", "strategy", "rules", "parameters", "as_of_seq"},
    "server migrate": {"cell", "streams", "left", "right"},
    "task cancel {task}": {"seq"},
}
"""Commands that answer with one document, and some of its keys."""
MANY_LINES = {
    "run ls": {"run_id", "name", "tasks", "opened_at"},
    "task ls --run {run}": {"task_id", "status", "attempt", "worker_id"},
    "worker ls": {"worker_id", "status", "health", "guard", "simulated", "slots", "hardware"},
    "event schema": {"type", "written_by", "meaning"},
    "event tail --after 0 --count 3": {"seq", "index", "subject", "event"},
    "config view": {"setting", "value", "origin", "meaning"},
    "doctor": {"name", "state", "text", "fix"},
    "db query SELECT+*+FROM+tasks+LIMIT+2": {"task_id", "run_id", "status"},
}
"""Commands that answer with one document a line."""
TABLES = (
    "run ls",
    "run show {run}",
    "task ls",
    "task show {task}",
    "worker ls",
    "config view",
)


class Known(CellUser):
    """The cell's user, with one run of one task that has passed."""

    task = ""
    run = ""

    def words(self, text: str) -> list[str]:
        """A command's words with the names of what is there."""
        filled = text.format(task=self.task, run=self.run)
        return [word.replace("+", " ") for word in filled.split()]


@pytest.fixture(scope="module")
def known(session_cell: CellUser, tmp_path_factory: pytest.TempPathFactory) -> Known:
    user = Known(session_cell.home, tmp_path_factory.mktemp("known"), mark=session_cell.mark)
    user.task = "answers-" + user.cwd.name
    ended = user.submit(command("echo out; echo err >&2", task_id=user.task)).good()
    user.run = ended.err.split()[1].rstrip(":")
    return user


@pytest.mark.parametrize("words", ONE_DOCUMENT)
def test_what_is_shown_is_one_json_document(known: Known, words: str) -> None:
    ended = known.here(*known.words(words), "--json").good()

    assert ended.out.count("\n") == 1
    assert set(ended.json) >= ONE_DOCUMENT[words]


@pytest.mark.parametrize("words", [words for words in MANY_LINES if "tail" not in words])
def test_what_is_listed_is_one_json_document_a_line(known: Known, words: str) -> None:
    ended = known.here(*known.words(words), "--json").good()

    assert ended.lines
    assert all(set(line) >= MANY_LINES[words] for line in ended.lines)


def test_what_streams_is_one_json_document_a_line(known: Known) -> None:
    words = "event tail --after 0 --count 3"

    ended = known.dtest(*words.split(), "--json").good()

    assert [line["seq"] for line in ended.lines] == [1, 2, 3]
    assert all(set(line) >= MANY_LINES[words] for line in ended.lines)


@pytest.mark.parametrize("words", TABLES)
def test_a_table_for_programs_is_lines_of_fields(known: Known, words: str) -> None:
    ended = known.here(*known.words(words)).good()

    header, first, *_ = ended.out.splitlines()
    assert header.count("\t") == first.count("\t") >= 1
    assert not ended.err
    assert "\x1b" not in ended.out


def test_a_table_for_eyes_is_drawn_with_relative_times(known: Known) -> None:
    shown = known.on_terminal("task", "ls", "--run", known.run)

    header, row = shown.strip().splitlines()
    assert "\x1b[1m" in header
    assert "\t" not in shown
    assert known.task in row
    assert "ago" in row


def test_a_terminal_that_can_draw_nothing_gets_lines_of_fields(known: Known) -> None:
    shown = known.at(known.cwd, TERM="dumb").on_terminal("worker", "ls")

    assert "worker_id\tstatus" in shown
    assert "\x1b" not in shown


def test_times_in_json_are_rfc_3339_in_utc(known: Known) -> None:
    found = known.here("task", "show", known.task, "--json").json

    assert found["queued_at"].endswith("Z")
    assert all(attempt["started_at"].endswith("Z") for attempt in found["attempts"])


def test_an_id_may_be_shortened_and_the_last_run_has_a_name(known: Known) -> None:
    other = known.run_of(command("true"))

    assert known.here("task", "show", known.task[:-1], "--json").json["task_id"] == known.task
    assert known.here("run", "show", known.run[:-1], "--json").json["run_id"] == known.run
    assert known.here("run", "show", "@last", "--json").json["run_id"] == other


def test_a_beginning_that_fits_two_names_is_refused(known: Known) -> None:
    ended = known.here("task", "show", "")

    assert ended.code == 2
    known.submit(command("true", task_id=f"{known.task}x")).good()
    assert "more than one task" in known.here("task", "show", known.task[:-1]).err


def test_output_comes_back_byte_for_byte(known: Known, new_id: Callable[[str], str]) -> None:
    task = new_id("bytes")
    known.submit(command("printf 'a\\0\\377\\r\\n'", task_id=task)).good()

    done = subprocess.run(
        [DTEST, "task", "logs", task], env=known.env, capture_output=True, check=True
    )

    assert done.stdout == b"a\0\xff\r\n"


def test_an_ended_task_can_be_run_once_more(known: Known, new_id: Callable[[str], str]) -> None:
    task = new_id("again")
    marker = known.cwd / task
    assert known.submit(command(f"test -e {marker}", task_id=task)).code == 1
    marker.touch()

    known.here("task", "retry", task).good()
    run = known.here("task", "show", task, "--json").json["run_id"]

    assert known.here("run", "watch", run).code == 0
    assert len(known.here("task", "show", task, "--json").json["attempts"]) == 2
    assert known.here("task", "retry", task).code == 2


def test_a_drained_worker_takes_nothing_new(known: Known, new_id: Callable[[str], str]) -> None:
    """Needs a worker of its own: one that drains does not come back."""
    name = new_id("drained")
    with known.started("--name", name, "--label", f"only={name}", program=AGENT) as agent:
        wanted = command("true", requirements={"labels": {"only": name}})
        known.submit(wanted).good()

        known.here("worker", "drain", name, "--reason", "a test says so").good()
        ended = known.submit(wanted, options=("--wait", "--timeout", "0.5"))

        assert ended.code == 6
        waiting = known.here("task", "ls", "--run", "@last").out
        assert known.here("worker", "show", name, "--json").json["status"] == "draining", waiting
        known.here("run", "cancel", "@last").good()
        assert interrupt(agent).code == 0


def test_a_quarantined_worker_gets_nothing_until_it_is_reinstated(
    known: Known, new_id: Callable[[str], str]
) -> None:
    name, task = new_id("shaky"), new_id("kept")
    with known.started("--name", name, "--label", f"only={name}", program=AGENT) as agent:
        only = {"labels": {"only": name}}
        known.submit(command("true", requirements=only)).good()

        known.here("worker", "quarantine", name, "--reason", "a test says so").good()
        wanted = command("true", task_id=task, requirements=only)
        ended = known.submit(wanted, options=("--wait", "--timeout", "0.5"))
        assert ended.code == 6
        shown = known.here("worker", "show", name).good().out
        assert "operator: a test says so" in shown
        held = known.here("breaker", "ls", "--guard", "quarantined", "--json").good().lines
        assert f"worker:{name}" in {line["breaker_id"] for line in held}
        assert "workers_quarantined" in known.here("why", task).good().out

        known.here("worker", "reinstate", name).good()
        assert known.here("run", "watch", "@last").code == 0
        assert interrupt(agent).code == 0


def test_a_task_that_was_too_large_shows_what_its_attempts_ran(
    known: Known, new_id: Callable[[str], str]
) -> None:
    task = new_id("large")
    document = {
        **command("true", task_id=task, requirements={"hardware": ["cuda"]}),
        "fallback_config": {"simulate": {"device_memory_gb": 1.0}},
    }
    document["config"]["simulate"] = {"seconds": 0, "device_memory_gb": 1_000.0}
    known.submit(document).good()

    shown = known.here("task", "show", task).good().out
    assert "oom_device" in shown
    (smaller,) = [line for line in shown.splitlines() if line.startswith("  smaller config")]
    assert "simulate={'seconds': 0, 'device_memory_gb': 1.0}" in smaller
    known.here("policy", "set", "--timeouts", "declared").good()
    assert "declared" in known.here("policy", "show").good().out


def test_the_doctor_finds_a_cell_that_is_well(known: Known) -> None:
    found = {line["name"]: line["state"] for line in known.here("doctor", "--json").good().lines}

    names = ("python", "nats-server", "disk", "credentials", "journal", "api", "leader", "workers")
    assert found == dict.fromkeys((*names, "task types"), "ok")


def test_the_doctor_says_what_to_do_where_nothing_runs(person: Person) -> None:
    ended = person.here("doctor").good()

    assert "no cell is up here" in ended.out
    assert "try: dtest up" in ended.out


def test_the_doctor_finds_readable_credentials(person: Person) -> None:
    person.state.mkdir(parents=True)
    file = person.state / "stack.json"
    file.write_text("{}")
    file.chmod(0o644)

    ended = person.here("doctor", "--json")

    assert ended.code == 3
    broken = [line for line in ended.lines if line["state"] == "broken"]
    assert [line["fix"] for line in broken] == [f"chmod 600 {file}"]


def test_the_doctor_finds_an_api_that_is_gone(person: Person) -> None:
    ended = person.here("doctor", "--api", "http://127.0.0.1:1", "--token", "x")

    assert ended.code == 3
    assert "broken   api: no API answers at http://127.0.0.1:1" in ended.out


def test_the_cells_credentials_are_the_owners_alone(known: Known) -> None:
    file = known.state / "stack.json"

    assert file.stat().st_mode & 0o777 == 0o600
    assert known.here("status", "--json").json["credentials"] == str(file)
    assert json.loads(file.read_text())["token"] not in known.here("config", "view").out
