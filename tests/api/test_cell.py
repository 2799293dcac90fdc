"""The cell over HTTP: workers, runs, status, health, metrics and questions by SQL."""

from dataclasses import asdict
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dtest.leadership.rules import CURRENT
from tests.kit.stack import Api, Json, command, never, simulated

# -- workers --------------------------------------------------------------------------------------


def registration(name: str, **more: Any) -> Json:
    has = {"slots": 2, "cpus": 8, "memory_gb": 32, "task_types": ["given-to-nobody"]}
    return {
        "worker_id": name,
        "incarnation": "first",
        "host": "lab-07",
        "capability": {**has, **more},
    }


def test_workers_are_listed_with_what_they_have(api: Api) -> None:
    workers = {worker["worker_id"]: worker for worker in api.items("/api/workers")}

    assert workers["sim-cpu-0"]["simulated"]
    assert not workers["local-1"]["simulated"]
    assert workers["local-1"]["slots"] == 2
    assert "command" in workers["local-1"]["capability"]["task_types"]
    active = {worker["worker_id"] for worker in api.items("/api/workers", status="active")}
    assert {"sim-cpu-0", "local-1"} <= active
    assert api.items("/api/workers", status="drunk") == []


def test_a_worker_shows_what_runs_on_it(api: Api) -> None:
    answer = api.post("/api/tasks/submit", command("sleep", "3600", task_id="on-a-worker"))
    with api.stack.events(answer["seq"] - 1, "attempt.started") as stream:
        seq = stream.until("dev.dtest.attempt.started.v1", "on-a-worker")

    shown = api.get("/api/workers/local-1", after=seq)

    assert shown["attempts"] == [{"task_id": "on-a-worker", "attempt": 1}]
    assert shown["running"] == 1
    asked = api.post("/api/tasks/on-a-worker/cancel")
    api.finished("on-a-worker", after=asked["seq"])
    api.refused(404, "GET", "/api/workers/nobody")


def test_the_load_of_workers_is_shown_and_the_unknown_is_null(api: Api) -> None:
    loads = {item["worker_id"]: item for item in api.get("/api/workers/status")["items"]}

    assert {"sim-cpu-0", "local-1"} <= set(loads)
    assert loads["sim-cpu-0"]["cpu_ratio"] is None, "a simulated machine has no load"
    assert loads["local-1"]["slots"] == 2
    assert "seq" not in loads["local-1"]


def test_a_foreign_agent_is_registered_and_drained(api: Api) -> None:
    registered = api.post("/api/workers/register", registration("foreign"))
    shown = api.get("/api/workers/foreign", after=registered["seq"])
    assert (shown["host"], shown["slots"], shown["status"]) == ("lab-07", 2, "active")

    asked = api.post("/api/workers/foreign/drain", {"reason": "new disk"})

    drained = api.get("/api/workers/foreign", after=asked["seq"])
    assert drained["status"] in {"draining", "suspected", "lost"}, "it never beats"
    (event,) = api.items("/api/events", entity="foreign", type="worker.drain_requested")
    assert event["data"]["reason"] == "new disk"
    api.refused(404, "POST", "/api/workers/nobody/drain")


def test_policies_are_shown_and_chosen(api: Api) -> None:
    before = api.get("/api/policy")
    assert (before["ranking"], before["strategy"]) == ("spread", "progressive")
    assert before["parameters"] == asdict(CURRENT.parameters)
    assert (before["rules"], before["chosen"]) == (CURRENT.version, {})

    asked = api.post("/api/policy", {"strategy": "minimal"})
    shown = api.get("/api/policy", after=asked["seq"])
    assert (shown["ranking"], shown["strategy"]) == ("spread", "minimal")
    assert shown["parameters"]["faults_max"] == shown["changed_by_strategy"]["faults_max"] == 1

    api.post("/api/policy", {"strategy": "progressive"})
    api.refused(422, "POST", "/api/policy", json={})
    api.refused(422, "POST", "/api/policy", json={"strategy": "reckless"})


def test_a_parameter_is_set_and_reset(api: Api) -> None:
    asked = api.post("/api/policy", {"parameters": {"faults_max": 7, "rejoin_s_max": 3}})
    shown = api.get("/api/policy", after=asked["seq"])
    assert shown["chosen"] == {"faults_max": 7, "rejoin_s_max": 3.0}
    assert (shown["parameters"]["faults_max"], shown["parameters"]["rejoin_s_max"]) == (7, 3.0)

    asked = api.post("/api/policy", {"reset": ["faults_max", "rejoin_s_max"]})
    shown = api.get("/api/policy", after=asked["seq"])
    assert (shown["chosen"], shown["parameters"]) == ({}, asdict(CURRENT.parameters))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"parameters": {"fault_max": 7}}, "did you mean 'faults_max'?"),
        ({"parameters": {"faults_max": -1}}, "faults_max"),
        ({"reset": ["nothing"]}, "no parameter is called 'nothing'"),
        ({"parameters": {"jitter": 0.1}, "reset": ["jitter"]}, "jitter: set and reset at once"),
        ({"parameters": {}, "reset": []}, "no ranking"),
    ],
)
def test_a_choice_of_parameters_that_makes_no_sense_is_told(
    api: Api, body: dict[str, Any], said: str
) -> None:
    refused = api.refused(422, "POST", "/api/policy", json=body)

    assert said in refused["message"]


def test_a_worker_is_quarantined_and_reinstated_by_hand(api: Api) -> None:
    registered = api.post("/api/workers/register", registration("shaky"))
    fresh = api.get("/api/workers/shaky", after=registered["seq"])
    assert (fresh["health"], fresh["guard"], fresh["faults"]) == (100.0, "closed", [])

    asked = api.post("/api/workers/shaky/quarantine", {"reason": "loose cable"})
    shown = api.get("/api/workers/shaky", after=asked["seq"])
    assert (shown["guard"], shown["guard_cause"]) == ("quarantined", "operator: loose cable")
    assert shown["guard_until"] is None
    names = [item["breaker_id"] for item in api.items("/api/breakers", guard="quarantined")]
    assert "worker:shaky" in names

    lifted = api.post("/api/workers/shaky/reinstate")
    assert api.get("/api/workers/shaky", after=lifted["seq"])["guard"] == "closed"
    for verb in ("quarantine", "reinstate"):
        api.refused(404, "POST", f"/api/workers/nobody/{verb}")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "worker_id"),
        (registration("no spaces"), "worker_id"),
        (registration("w", slots=0), "slots"),
        (registration("w", slots="many"), "slots"),
        (registration("w", memory_gb=-1), "memory_gb"),
        (registration("w", devices=[{"kind": 7}]), "devices"),
        ([], "body"),
        (None, "body"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(api: Api, body: Any, named: str) -> None:
    error = api.refused(422, "POST", "/api/workers/register", json=body)

    assert named in error["message"]


@pytest.mark.parametrize("slots", [2**31, 2**63, 2**64, 2**100])
def test_a_worker_may_boast_without_breaking_anything(api: Api, slots: int) -> None:
    name = f"boast-{slots.bit_length()}"

    answer = api.http.post("/api/workers/register", json=registration(name, slots=slots))

    assert answer.status_code in {202, 422}, answer.text
    after = api.post("/api/tasks/submit", never())
    assert after["tasks"][0]["status"] == "accepted", "the read model goes on"


# -- runs -----------------------------------------------------------------------------------------


def test_a_run_counts_its_tasks_by_state(api: Api) -> None:
    answer = api.submit(
        simulated(task_id="run-good"),
        simulated("failed", task_id="run-bad"),
        never(dependencies=["run-bad"]),
        never(),
        name="counted",
    )
    for name in ("run-bad", "run-good"):
        api.finished(name, after=answer["seq"] - 1)
    with api.stack.events(answer["seq"] - 1, "task.ended") as stream:
        seq = stream.until("dev.dtest.task.ended.v1", answer["tasks"][2]["task_id"])

    run = api.get(f"/api/runs/{answer['run_id']}", after=seq)

    counted = {name: run[name] for name in ("tasks", "passed", "failed", "skipped", "waiting")}
    assert counted == {"tasks": 4, "passed": 1, "failed": 1, "skipped": 1, "waiting": 1}
    assert not run["finished"]
    assert run["labels"] == {}
    assert "page_key" not in run
    (listed,) = api.items("/api/runs", name="counted")
    assert listed["run_id"] == answer["run_id"]


def test_a_run_keeps_its_labels_when_tasks_follow(api: Api) -> None:
    api.submit(never(), run_id="labelled", name="first", labels={"branch": "main"})
    answer = api.post("/api/tasks/submit", never(run_id="labelled"))

    run = api.get("/api/runs/labelled", after=answer["seq"])

    assert (run["name"], run["labels"], run["tasks"]) == ("first", {"branch": "main"}, 2)


def test_runs_are_found_by_beginning_and_the_last_by_name(api: Api) -> None:
    api.submit(never(), run_id="beginning-a")
    api.submit(never(), run_id="beginning-b")
    newest = api.submit(never())

    assert api.get("/api/runs/@last", after=newest["seq"])["run_id"] == newest["run_id"]
    assert api.get("/api/runs/beginning-a")["run_id"] == "beginning-a"
    several = api.refused(404, "GET", "/api/runs/beginning-")
    assert "more than one" in several["message"]
    api.refused(404, "GET", "/api/runs/nobody")


# -- status, health, metrics ----------------------------------------------------------------------


def test_the_status_is_the_cell_in_one_view(api: Api) -> None:
    seq = api.post("/api/tasks/submit", never())["seq"]

    status = api.get("/api/status", after=seq)

    assert status["cell"] == "main"
    assert status["leader_id"] == status["leaders"][0]["leader_id"]
    assert status["epoch"] == status["leaders"][0]["epoch"]
    assert status["workers"]["active"] >= 2
    assert status["tasks"]["queued"] >= 1
    assert status["runs"] >= 1
    assert status["connected"] is True
    assert status["projected_seq"] >= seq
    assert status["journal"]["last_seq"] >= status["projected_seq"]


def test_health_says_how_the_parts_are(api: Api) -> None:
    seq = api.post("/api/tasks/submit", never())["seq"]

    assert api.get("/api/health") == {"status": "alive"}
    database = api.get("/api/health/db")
    assert database["status"] == "ok"
    assert database["journal_seq"] >= seq
    assert database["lag_messages"] >= 0
    assert database["rows"]["events"] > 0
    assert database["file_bytes"] > 0
    machine = api.get("/api/health/resources")
    assert 0 <= machine["cpu_ratio"] <= 1
    assert machine["memory_bytes"] > 0
    assert machine["disk_free_bytes"] > 0


def test_metrics_are_prometheus_text(api: Api) -> None:
    answer = api.post("/api/tasks/submit", simulated(task_id="measured"))
    api.finished("measured", after=answer["seq"] - 1)

    exposed = api.http.get("/api/metrics")

    assert exposed.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(exposed.text)}
    assert all(name.startswith("dtest_") for name in families)
    assert all(family.documentation for family in families.values())
    ended = {s.labels["status"]: s.value for s in families["dtest_tasks_ended"].samples}
    assert ended["passed"] >= 1
    assert families["dtest_workers"].type == "gauge"
    assert families["dtest_tasks_ended"].type == "counter"
    epoch = families["dtest_leader_epoch"].samples[0].value
    assert epoch == api.get("/api/status")["epoch"]
    labels = {name for family in families.values() for s in family.samples for name in s.labels}
    assert labels <= {"status", "version", "lane", "answer", "bound"}, (
        "no ids of runs, tasks or tests as labels"
    )


# -- questions ------------------------------------------------------------------------------------


def ask(api: Api, sql: str) -> Json:
    return api.post("/api/query", {"sql": sql})


def test_a_question_is_answered(api: Api) -> None:
    seq = api.post("/api/tasks/submit", never(task_id="asked-for"))["seq"]
    api.get("/api/status", after=seq)

    answer = ask(api, "SELECT task_id, seq, queued_at FROM tasks WHERE task_id = 'asked-for'")

    assert answer["columns"] == ["task_id", "seq", "queued_at"]
    ((task_id, at_seq, queued_at),) = answer["rows"]
    assert (task_id, at_seq) == ("asked-for", seq)
    assert queued_at.endswith("Z")
    assert answer["truncated"] is False
    many = ask(api, "SELECT * FROM range(20000)")
    assert (len(many["rows"]), many["truncated"]) == (10_000, True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'nan'::DOUBLE, 'infinity'::DOUBLE",
        "SELECT ['nan'::DOUBLE], MAP {[1]: 'nan'::DOUBLE}",
        "SELECT 1::HUGEINT << 100, uuid(), INTERVAL 1 DAY, 'a'::BLOB, chr(0)",
        "SELECT '0001-01-01 (BC)'::DATE, '99999-01-01'::TIMESTAMP, 'infinity'::TIMESTAMP",
        "DESCRIBE tasks",
        "SHOW TABLES",
        "SUMMARIZE workers",
        "SELECT * FROM run_summary",
        "SELECT a, a FROM (SELECT 1 AS a)",
    ],
)
def test_every_answer_is_json(api: Api, sql: str) -> None:
    answer = ask(api, sql)

    assert all(len(row) == len(answer["columns"]) for row in answer["rows"])


@pytest.mark.parametrize(
    "body",
    [{}, {"sql": 7}, {"sql": None}, {"sql": "x" * 100_001}, {"sql": "SELECT 1", "limit": 5}, []],
    ids=lambda body: str(body)[:20],
)
def test_what_is_no_question_is_refused(api: Api, body: Any) -> None:
    api.refused(422, "POST", "/api/query", json=body)


def test_a_mistake_in_a_question_is_explained(api: Api) -> None:
    error = api.refused(422, "POST", "/api/query", json={"sql": "SELECT taks_id FROM tasks"})

    assert "task_id" in error["message"], "the database's own proposal is passed on"
    assert error["code"] == "invalid"
