"""Attacks: by those without the token, by web pages, by users of the machine, by those who ask."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus

from dtest.errors import PermissionRefused
from dtest.journal.connection import NatsAddress, connect
from tests.kit.stack import Api, RunningStack, command, never, problem

SUBMIT = "/api/tasks/submit"
NOBODY = 65534
STOLEN = never(name="stolen")
STOLEN_IN_JOURNAL = "SELECT count(*) FROM events WHERE data LIKE '%\"stolen\"%'"
PATHS = [
    ("GET", "/api/tasks"),
    ("GET", "/api/tasks/x"),
    ("GET", "/api/results/x"),
    ("GET", "/api/attempts"),
    ("GET", "/api/tasks/x/logs"),
    ("GET", "/api/tasks/x/output"),
    ("GET", "/api/runs"),
    ("GET", "/api/history"),
    ("GET", "/api/workers"),
    ("GET", "/api/workers/status"),
    ("GET", "/api/events"),
    ("GET", "/api/status"),
    ("GET", "/api/metrics"),
    ("GET", "/api/health/db"),
    ("GET", "/api/health/resources"),
    ("GET", "/api/openapi.json"),
    ("GET", "/api/docs"),
    ("GET", "/api/nothing"),
    ("GET", "/"),
    ("POST", SUBMIT),
    ("POST", "/api/tasks/x/cancel"),
    ("POST", "/api/tasks/x/retry"),
    ("POST", "/api/workers/register"),
    ("POST", "/api/workers/x/drain"),
    ("POST", "/api/workers/x/quarantine"),
    ("POST", "/api/workers/x/reinstate"),
    ("GET", "/api/breakers"),
    ("GET", "/api/policy"),
    ("POST", "/api/policy"),
    ("POST", "/api/query"),
    ("PUT", "/api/tasks"),
    ("OPTIONS", SUBMIT),
]


def journal_seq(api: Api) -> int:
    return int(api.get("/api/health/db")["journal_seq"])


@pytest.fixture(scope="module", autouse=True)
def _nothing_was_stolen(api: Api) -> Iterator[None]:
    """No attack leaves a trace in the journal: every one tries to submit such a task."""
    api.post(SUBMIT, never(task_id="stays"))
    yield
    assert api.post(SUBMIT, never())["tasks"][0]["status"] == "accepted", "all goes on"
    api.get("/api/status", after=journal_seq(api))
    assert api.post("/api/query", {"sql": STOLEN_IN_JOURNAL})["rows"] == [[0]]


# -- without the token ----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_token_nothing_is_answered(stack: RunningStack, method: str, path: str) -> None:
    with stack.stranger() as http:
        answer = http.request(method, path, json=STOLEN if method == "POST" else None)

    error = problem(answer, 401)
    assert error["code"] == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert stack.token not in answer.text


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer wrong",
        "Bearer",
        "bearer {token}x",
        "Bearer  {token}",
        "Bearer {half}",
        "Basic {token}",
        "{token}",
        "Bearer {upper}",
        "Bearer \xff\xfe",
        "Bearer {token},{token}",
        "Bearer " + "x" * 8_000,
        "",
    ],
)
def test_a_wrong_token_is_no_token(stack: RunningStack, shown: str) -> None:
    token = stack.token
    value = shown.format(token=token, half=token[:-1], upper=token.swapcase())
    raw = [(b"authorization", value.encode("latin-1"))]

    with stack.stranger() as http:
        answer = http.request("POST", SUBMIT, json=STOLEN, headers=raw)

    problem(answer, 401)


@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "Authorization"])
def test_a_token_in_the_address_or_a_cookie_is_no_token(stack: RunningStack, name: str) -> None:
    with stack.stranger() as http:
        for value in (stack.token, f"Bearer {stack.token}"):
            problem(http.post(SUBMIT, params={name: value}, json=STOLEN), 401)
            problem(http.get("/api/status", params={name: value}), 401)
        cookie = {"cookie": f"{name}={stack.token}"}
        problem(http.post(SUBMIT, json=STOLEN, headers=cookie), 401)


def test_without_a_token_only_life_is_told(stack: RunningStack) -> None:
    with stack.stranger() as http:
        answer = http.get("/api/health")

        assert answer.json() == {"status": "alive"}
        for path in (
            "/api/health/",
            "/api/health/../status",
            "/api/health/%2e%2e/status",
            "/api/health;/api/status",
            "//api/status",
            "/api/HEALTH",
            "/api/health%00",
        ):
            assert raw_status(stack, f"GET {path}") in {400, 401}, path


def raw_status(stack: RunningStack, line: str, *headers: str, body: bytes = b"") -> int:
    """Send a request as it stands, without a client that tidies it up; return the status."""
    host, _, port = stack.host.rpartition(":")
    lines = [f"{line} HTTP/1.1", *(headers or (f"Host: {stack.host}",)), "Connection: close"]
    request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    return int(answer.split(b" ", 2)[1])


# -- web pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "localhost.evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:{port}.evil.example",
        "evil.example@127.0.0.1:{port}",
        "0.0.0.0:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "2130706433:{port}",
        "",
    ],
)
def test_another_name_for_this_address_is_refused_whoever_asks(
    stack: RunningStack, host: str
) -> None:
    """DNS can be made to point to loopback: a page of evil.example would be of the same origin."""
    name = host.format(port=stack.host.rpartition(":")[2])
    token = f"Authorization: Bearer {stack.token}"

    assert raw_status(stack, "GET /api/status", f"Host: {name}", token) == 403
    assert raw_status(stack, "GET /api/health", f"Host: {name}") == 403


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_its_own_names_are_taken(stack: RunningStack, host: str) -> None:
    name = host.format(port=stack.host.rpartition(":")[2])
    token = f"Authorization: Bearer {stack.token}"

    assert raw_status(stack, "GET /api/status", f"Host: {name}", token) == 200


ORIGINS = [
    "http://evil.example",
    "https://evil.example",
    "http://evil.example:{port}",
    "http://127.0.0.1.evil.example:{port}",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://127.0.0.1:{port}@evil.example",
    "http://evil.example/127.0.0.1:{port}",
    "http://evil.example#127.0.0.1:{port}",
    "null",
    "file://",
    "127.0.0.1:{port}",
    "http://[",
    "http://[::1",
    "//",
    "\xff",
    "chrome-extension://abcdef",
    "",
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_page_of_another_origin_is_refused_even_with_the_token(
    stack: RunningStack, origin: str
) -> None:
    value = origin.format(port=stack.host.rpartition(":")[2])
    headers = [
        (b"authorization", f"Bearer {stack.token}".encode()),
        (b"origin", value.encode("latin-1")),
    ]

    with stack.stranger() as http:
        for method, path in (("POST", SUBMIT), ("GET", "/api/status"), ("GET", "/api/health")):
            answer = http.request(method, path, headers=headers)
            error = problem(answer, 403)
            assert error["code"] == "forbidden"
            assert "access-control-allow-origin" not in answer.headers


def test_a_page_of_its_own_origin_may_ask(stack: RunningStack) -> None:
    with stack.api() as api:
        for origin in (stack.url, stack.url.replace("127.0.0.1", "localhost")):
            answer = api.http.get("/api/status", headers={"origin": origin})
            assert answer.is_success


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None],
)
def test_a_form_of_another_site_submits_nothing(stack: RunningStack, kind: str | None) -> None:
    """Browsers send such requests without asking first, with no token and no Origin at times."""
    headers = {"content-type": kind} if kind is not None else {}

    with stack.stranger() as http:
        for path in (SUBMIT, "/api/query", "/api/tasks/x/cancel", "/api/workers/register"):
            problem(http.post(path, content=json.dumps(STOLEN), headers=headers), 401)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_called_json_is_not_read(api: Api, kind: str) -> None:
    for content in (json.dumps(STOLEN).encode(), b"\xff\xfe", b"a=b"):
        headers = {"content-type": kind}
        api.refused(422, "POST", SUBMIT, content=content, headers=headers)
        api.refused(422, "POST", "/api/query", content=content, headers=headers)


@pytest.mark.parametrize("origin", [*ORIGINS[:4], "null", "http://["])
def test_a_web_socket_of_another_origin_is_refused(stack: RunningStack, origin: str) -> None:
    value = origin.format(port=stack.host.rpartition(":")[2])

    with pytest.raises(InvalidStatus) as refused, stack.events(0, origin=value):
        pass

    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("shown", ["", "Bearer wrong", "Basic {token}"])
def test_a_web_socket_without_the_token_is_refused(stack: RunningStack, shown: str) -> None:
    headers = {"Authorization": shown.format(token=stack.token)} if shown else {}

    with pytest.raises(InvalidStatus) as refused, stack.events(0, additional_headers=headers):
        pass

    assert refused.value.response.status_code == 403


def test_a_web_socket_with_another_host_is_refused(stack: RunningStack) -> None:
    upgrade = (
        "Host: evil.example",
        f"Authorization: Bearer {stack.token}",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )

    assert raw_status(stack, "GET /api/events/stream", *upgrade) == 403


def test_a_request_with_two_hosts_or_lengths_is_refused(stack: RunningStack) -> None:
    token = f"Authorization: Bearer {stack.token}"
    own = f"Host: {stack.host}"

    assert raw_status(stack, "GET /api/status", "Host: evil.example", own, token) in {400, 403}
    assert raw_status(stack, "GET /api/status", own, "Host: evil.example", token) in {400, 403}
    chunked = (own, token, "Content-Length: 5", "Transfer-Encoding: chunked")
    assert raw_status(stack, f"POST {SUBMIT}", *chunked, body=b"0\r\n\r\n") in {400, 422}


# -- those who ask too much -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "COPY tasks TO '{place}/stolen.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('{credentials}')",
        "SELECT * FROM read_blob('{credentials}')",
        "SELECT content FROM read_text('{place}/*')",
        "SELECT * FROM glob('{place}/*')",
        "SELECT * FROM '{credentials}'",
        "ATTACH '{place}/other.duckdb' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SELECT 1; DELETE FROM tasks",
        "DELETE FROM tasks",
        "WITH gone AS (DELETE FROM tasks RETURNING *) SELECT count(*) FROM gone",
        "WITH moved AS (UPDATE progress SET seq = 1 RETURNING *) SELECT * FROM moved",
        "WITH x AS (INSERT INTO leaders VALUES (1, 'me', 0, 'h', now()) RETURNING 1) FROM x",
        "EXPORT DATABASE '{place}/stolen'",
        "CREATE TABLE mine AS SELECT 1",
        "SELECT getenv('DTEST_TOKEN')",
        "SELECT * FROM force_checkpoint()",
    ],
)
def test_a_question_reads_no_file_and_changes_nothing(api: Api, sql: str) -> None:
    directory = api.stack.directory
    credentials = directory / "stack.json"
    files = sorted(path.name for path in directory.iterdir())
    text = sql.format(place=directory, credentials=credentials)

    error = api.refused(422, "POST", "/api/query", json={"sql": text})

    assert api.stack.token not in str(error)
    assert "root:" not in str(error)
    assert api.get("/api/tasks/stays")["task_id"] == "stays"
    assert {path.name for path in directory.iterdir()} - {*files, "read-model.duckdb.wal"} == set()


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "....//....//etc/passwd",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "..\\..\\etc\\passwd",
        "file:///etc/passwd",
        "../../2/1/secret",
        "%00",
        "a" * 4000,
        "%f0%9f%a7%aa",
        ">",
        "*",
        ".",
        "..",
    ],
)
def test_the_name_of_an_artefact_leads_to_no_file(stack: RunningStack, name: str) -> None:
    token = f"Authorization: Bearer {stack.token}"
    host = f"Host: {stack.host}"

    path = f"/api/tasks/stays/artifacts/1/{name}"

    assert raw_status(stack, f"GET {path}", host, token) in {400, 404}


@pytest.mark.parametrize(
    "name", ["../x", "..%2fx", "%00", "a/b", "*", ">", "' OR 1=1 --", "x" * 5000]
)
def test_a_made_up_id_finds_nothing(api: Api, name: str) -> None:
    for path in ("/api/tasks/{}", "/api/results/{}", "/api/runs/{}", "/api/workers/{}"):
        answer = api.http.get(path.format(quote(name, safe="%")))

        assert answer.status_code in {400, 404}, answer.text


# -- users of the machine -------------------------------------------------------------------------


def test_credentials_are_their_owners_alone(stack: RunningStack) -> None:
    secrets = {
        path
        for path in stack.directory.rglob("*")
        if path.is_file()
        and path.stat().st_size < 1 << 20
        and (
            stack.token.encode() in path.read_bytes()
            or str(stack.file.nats_password).encode() in path.read_bytes()
        )
    }

    assert secrets == {stack.directory / "stack.json", stack.directory / "nats" / "nats.conf"}
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(stack.directory.stat().st_mode) == 0o700


def test_secrets_stand_on_no_command_line(stack: RunningStack) -> None:
    for child in psutil.Process().children(recursive=True):
        try:
            words = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue  # it ended in between
        assert stack.token not in words
        assert str(stack.file.nats_password) not in words


def test_everything_listens_on_loopback_only(stack: RunningStack) -> None:
    listening: dict[str, set[str]] = {}
    for name, child in stack.stack.children.items():
        for connection in psutil.Process(child.process.pid).net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                listening.setdefault(name, set()).add(connection.laddr.ip)

    assert set(listening) == {"nats", "api"}
    assert set.union(*listening.values()) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, None), ("dtest", None), ("dtest", "wrong"), ("", ""), ("admin", "{password}")],
)
async def test_nats_refuses_who_cannot_show_its_credentials(
    stack: RunningStack, user: str | None, password: str | None
) -> None:
    given = password and password.format(password=stack.file.nats_password)
    address = NatsAddress((stack.file.nats_url,), user, given)

    with pytest.raises(PermissionRefused):
        await connect(address, name="a stranger", wait_s=1.0)


async def test_nats_refuses_a_token_in_the_place_of_its_password(stack: RunningStack) -> None:
    for token in (stack.token, str(stack.file.nats_password)):
        with pytest.raises(PermissionRefused):
            await connect(NatsAddress((stack.file.nats_url,), token=token), name="x", wait_s=1.0)


STRANGER = """
import json, os, pathlib, socket, sys, urllib.request, urllib.error

directory, api, nats_port, pids = json.loads(sys.argv[1])
found = {"uid": os.getuid()}

def attempt(name, deed):
    try:
        found[name] = repr(deed())[:500]
    except OSError as error:
        found[name] = f"{type(error).__name__} {getattr(error, 'code', '')}".strip()

root = pathlib.Path(directory)
attempt("list", lambda: os.listdir(root))
for name in ("stack.json", "nats/nats.conf", "read-model.duckdb", "stack.lock", "api.log"):
    attempt(name, lambda: (root / name).read_bytes())
attempt("create", lambda: (root / "mine").write_text("x"))
attempt("rename", lambda: root.rename(root.with_name("mine")))
for pid in pids:
    attempt(f"environment {pid}", lambda: pathlib.Path(f"/proc/{pid}/environ").read_bytes())
    attempt(f"signal {pid}", lambda: os.kill(pid, 0))

def ask(headers):
    task = {"type": "command", "name": "stolen", "config": {"command": ["true"]}}
    body = json.dumps(task).encode()
    request = urllib.request.Request(
        f"{api}/api/tasks/submit", body, {"content-type": "application/json", **headers}
    )
    return urllib.request.urlopen(request, timeout=30).status

attempt("submit", lambda: ask({}))
attempt("guess", lambda: ask({"authorization": "Bearer guess"}))

def publish(words):
    with socket.create_connection(("127.0.0.1", nats_port), timeout=30) as connection:
        connection.recv(65536)
        connection.sendall(words)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
        return said

event = b'{"specversion": "1.0", "data": {"name": "stolen"}}'
subject = b"dtest.main.client.evil.task.queued"
pub = b"PUB " + subject + b" " + str(len(event)).encode() + b"\\r\\n" + event + b"\\r\\nPING\\r\\n"
attempt("nats", lambda: publish(b'CONNECT {"verbose": false}\\r\\n' + pub))
attempt("nats without connect", lambda: publish(pub))
print(json.dumps(found))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_of_the_machine_reads_and_submits_nothing(
    stack: RunningStack, tmp_path: Path
) -> None:
    port = int(stack.file.nats_url.rpartition(":")[2])
    pids = [child.process.pid for child in stack.stack.children.values()]
    told = json.dumps([str(stack.directory), stack.url, port, pids])
    python = Path(sys.base_prefix) / "bin" / "python3"
    interpreter = "/usr/bin/python3" if not reachable(python) else str(python)

    done = subprocess.run(
        [
            *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
            *(interpreter, "-I", "-c", dedent(STRANGER), told),
        ],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("uid") == NOBODY
    assert "Authorization Violation" in found.pop("nats") + found.pop("nats without connect")
    assert found.pop("submit") == "HTTPError 401"
    assert found.pop("guess") == "HTTPError 401"
    assert set(found.values()) == {"PermissionError"}, found


def reachable(program: Path) -> bool:
    """Whether every user may run it."""
    return program.exists() and all(
        parent.stat().st_mode & 0o001 for parent in program.resolve().parents
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_task_finds_no_credentials_in_its_environment(api: Api) -> None:
    """Who may submit may run programs: but a test's output must not give the keys away."""
    answer = api.post(SUBMIT, command("env", task_id="shows-environment"))
    api.finished("shows-environment", after=answer["seq"] - 1)

    output = api.http.get("/api/tasks/shows-environment/logs").text

    assert output
    assert api.stack.token not in output
    assert str(api.stack.file.nats_password) not in output


async def test_many_refused_requests_do_not_hold_up_the_others(stack: RunningStack) -> None:
    limits = httpx.Limits(max_connections=50)
    wrong = [{"authorization": f"Bearer {number}"} for number in range(100)]
    async with httpx.AsyncClient(base_url=stack.url, limits=limits, timeout=30) as http:
        refused = await asyncio.gather(
            *(http.post(SUBMIT, json=STOLEN, headers=headers) for headers in wrong)
        )
        headers = {"authorization": f"Bearer {stack.token}"}
        answer = await http.get("/api/status", headers=headers)

    assert {item.status_code for item in refused} == {401}
    assert answer.is_success
