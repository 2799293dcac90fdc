"""Attempts over HTTP: which worker ran what, when, how it ended, and what it left."""

from tests.kit.stack import Api, command

SUBMIT = "/api/tasks/submit"


def test_the_attempts_of_a_run_are_listed_with_what_they_left(api: Api) -> None:
    line = 'echo kept > "$DTEST_ARTIFACT_DIR/note.txt"; [ $DTEST_ATTEMPT = 2 ] || exit 5'
    again = {"max_retries": 1}
    twice = {**command("sh", "-c", line, task_id="tried-twice"), "retry_policy": again}
    answer = api.submit(twice, command("true", task_id="tried-once"))
    for name in ("tried-once", "tried-twice"):
        api.finished(name, after=answer["seq"] - 1)
    with api.stack.events(answer["seq"] - 1, "attempt.finished") as stream:
        ends = [stream.until("dev.dtest.attempt.finished.v1", "tried-twice") for _ in range(2)]

    listed = api.items("/api/attempts", run_id=answer["run_id"], after=ends[-1])

    assert {(item["task_id"], item["attempt"], item["status"]) for item in listed} == {
        ("tried-twice", 2, "passed"),
        ("tried-twice", 1, "failed"),
        ("tried-once", 1, "passed"),
    }
    first = next(item for item in listed if item["status"] == "failed")
    assert first["reason"] == "exit_nonzero"
    assert (first["worker_id"], first["hardware"]) == ("local-1", "cpu")
    assert first["run_id"] == answer["run_id"]
    assert first["started_at"] <= first["finished_at"]
    (left,) = first["artifacts"]
    assert (left["name"], left["size_bytes"]) == ("note.txt", 5)
    assert "page_key" not in first


def test_attempts_are_filtered_and_paged(api: Api) -> None:
    names = [f"paged-{n}" for n in range(3)]
    answer = api.submit(*(command("true", task_id=name) for name in names))
    for name in names:
        shown = api.finished(name, after=answer["seq"] - 1)
    query = {"run_id": answer["run_id"], "after": shown["as_of_seq"]}

    assert [item["task_id"] for item in api.items("/api/attempts", limit=1, **query)] == names[::-1]
    assert len(api.items("/api/attempts", worker_id="local-1", **query)) == 3
    assert api.items("/api/attempts", worker_id="nobody", **query) == []
    assert len(api.items("/api/attempts", status="passed", **query)) == 3
    assert api.items("/api/attempts", status="failed", **query) == []
    api.refused(422, "GET", "/api/attempts", params={"limit": 0})
