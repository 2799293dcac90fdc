"""Every refusal has the one form: ``{error: {code, message, hint}}``."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest

from dtest.api.app import create_app
from tests.kit.stack import Api, RunningStack, problem

JSON = {"content-type": "application/json"}


def operations() -> Iterator[tuple[str, str]]:
    """Each documented method and path, with an id that nobody has in the place of a parameter."""
    for path, methods in create_app(cast("Any", None)).openapi()["paths"].items():
        for method in methods:
            named = path.replace("{attempt}", "1").replace("{name}", "x")
            yield (
                method.upper(),
                named.format(
                    **dict.fromkeys(("task_id", "run_id", "worker_id", "digest"), "nobody")
                ),
            )


OPERATIONS = list(operations())
NAMES = {"/api/tasks/submit", "/api/workers/register", "/api/workspaces/parts"}
"""Read as ids where they are asked for: a task might have that name."""
WITH_BODY = ["/api/tasks/submit", "/api/workers/register", "/api/query"]


@pytest.mark.parametrize("path", sorted({path for _, path in OPERATIONS}))
def test_a_method_that_a_path_does_not_have_is_named(api: Api, path: str) -> None:
    has = {method for method, other in OPERATIONS if other == path}
    for method in sorted({"GET", "POST", "PUT", "PATCH", "DELETE"} - has):
        answer = api.http.request(method, path)

        if path in NAMES and method == "GET":
            problem(answer, 404)
            continue
        error = problem(answer, 405)
        assert error["code"] == "method_not_allowed"
        assert set(answer.headers["allow"].split(", ")) <= has | {"HEAD"}


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/nothing", "/api/tasks/", "/favicon.ico", "/api/tasks/a/b/c"],
)
def test_a_path_that_does_not_exist_is_not_found(api: Api, path: str) -> None:
    answer = api.http.get(path)

    assert answer.status_code in {307, 404}
    if answer.status_code == httpx.codes.NOT_FOUND:
        assert problem(answer, 404)["code"] == "not_found"


@pytest.mark.parametrize(("method", "path"), [item for item in OPERATIONS if "nobody" in item[1]])
def test_an_id_that_nobody_has_is_not_found(api: Api, method: str, path: str) -> None:
    needed = {"content": b"{}", "headers": JSON} if path.endswith("/plan") else {}
    if method == "GET":
        needed = {}
    error = api.refused(404, method, path, **needed)

    assert error["code"] == "not_found"
    assert "nobody" in error["message"]


@pytest.mark.parametrize("path", WITH_BODY)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"{]", b"nonsense", b"\xff", b'{"a": NaN}', b'{"a": 1} {', b"[[[["]
)
def test_a_body_that_is_no_json_is_refused(api: Api, path: str, content: bytes) -> None:
    error = api.refused(422, "POST", path, content=content, headers=JSON)

    assert error["code"] == "invalid"
    assert error["message"].startswith("body")


@pytest.mark.parametrize("path", WITH_BODY)
@pytest.mark.parametrize(
    "kind", ["text/plain", "text/html", "application/xml", "application/octet-stream", "x", ""]
)
def test_a_body_of_another_type_is_refused(api: Api, path: str, kind: str) -> None:
    for content in (b"{}", b"\xff\xfe\x00"):
        headers = {"content-type": kind} if kind else {}
        error = api.refused(422, "POST", path, content=content, headers=headers)
        assert error["code"] == "invalid"


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/json", "application/vnd.x+json"]
)
def test_json_by_any_of_its_names_is_read(api: Api, kind: str) -> None:
    answer = api.http.post(
        "/api/query", content=b'{"sql": "SELECT 1"}', headers={"content-type": kind}
    )

    assert answer.json()["rows"] == [[1]]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("COPY tasks TO '/tmp/dtest-must-not-exist'", 2),
        ("SELECT * FROM read_csv('/etc/passwd')", 2),
        ("WITH gone AS (DELETE FROM tasks RETURNING *) SELECT * FROM gone", 2),
        ("SELECT 6 * 7 AS answer", 0),
    ],
)
def test_the_command_line_passes_the_refusal_on(stack: RunningStack, sql: str, code: int) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dtest", "db", "query", sql, "--json"),
            *("--state-dir", str(stack.directory.parent)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=stack.directory,
    )

    assert done.returncode == code, done.stderr
    assert "root:" not in done.stdout
    assert (done.stdout.strip() == '{"answer":42}') == (code == 0)
