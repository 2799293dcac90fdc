"""Workspaces over HTTP: what comes in is not trusted, what is there is not sent again."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from dtest.caller.api_client import ApiClient
from dtest.errors import InvalidDocument, NotFound
from dtest.workspaces.manifest import CHUNK_BYTES, File, manifest_of
from dtest.workspaces.pack import PACK_BYTES_MAX, encode, packs
from dtest.workspaces.shipping import ship
from tests.kit.stack import Api, RunningStack, problem

NOW = 1_800_000_000.0


@pytest.fixture
def door(stack: RunningStack) -> ApiClient:
    return ApiClient(stack.url, stack.token, busy_wait_s=0.0)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for number in range(5):
        (tmp_path / f"file{number}").write_text(f"{uuid4()}\n")
    (tmp_path / "large").write_bytes(uuid4().bytes * (CHUNK_BYTES // 8))
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.fixture
def raw(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.api() as api:
        yield api.http


def test_a_tree_is_shipped_once_and_its_changes_after(door: ApiClient, project: Path) -> None:
    first = ship(door, project, now=lambda: NOW)
    second = ship(door, project, now=lambda: NOW)
    (project / "file3").write_text("changed\n")
    third = ship(door, project, now=lambda: NOW)

    assert (first.files, first.files_sent) == (7, 6)
    assert (second.digest, second.files_sent, second.bytes_sent) == (first.digest, 0, 0)
    assert (third.files_sent, third.bytes_sent) == (1, len("changed\n"))
    assert door.get(f"/api/workspaces/{third.digest}")["is_stored"] is True


def test_a_tree_that_was_not_shipped_is_not_found(door: ApiClient) -> None:
    for name in ("0" * 64, "parts", "*", "%3E", "A" * 64):
        with pytest.raises(NotFound, match="is not stored"):
            door.get(f"/api/workspaces/{name}")


def test_a_tree_is_stored_only_with_all_of_its_parts(door: ApiClient) -> None:
    content = uuid4().bytes
    digest = sha256(content).hexdigest()
    manifest = manifest_of([File("a", len(content), (digest,))])
    body = encode(manifest.encoded())

    for _ in range(2):
        answer = door.post_bytes("/api/workspaces", body)
        assert (answer["is_stored"], answer["missing"]) == (False, [digest])
    with pytest.raises(NotFound):
        door.get(f"/api/workspaces/{manifest.digest}")
    (pack,) = packs([(digest, encode(content))])
    assert door.post_bytes("/api/workspaces/parts", pack) == {"parts": 1}
    assert door.post_bytes("/api/workspaces", body)["is_stored"] is True


def test_a_part_that_is_not_what_it_is_called_refuses_the_whole_pack(door: ApiClient) -> None:
    good = uuid4().bytes
    named = sha256(good).hexdigest()
    (pack,) = packs([(named, encode(good)), ("0" * 64, encode(b"other"))])

    with pytest.raises(InvalidDocument, match="has the content of"):
        door.post_bytes("/api/workspaces/parts", pack)
    manifest = manifest_of([File("a", len(good), (named,))])
    assert door.post_bytes("/api/workspaces", encode(manifest.encoded()))["missing"] == [named]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/workspaces", b""),
        ("/api/workspaces", b"nonsense"),
        ("/api/workspaces", encode(b"{}")),
        ("/api/workspaces", encode(b'{"dtest_workspace":1,"entries":[["l","../x","y"]]}')),
        ("/api/workspaces", encode(b'{"dtest_workspace":1,"entries":[]}')),
        ("/api/workspaces/parts", b""),
        ("/api/workspaces/parts", b"nonsense"),
        ("/api/workspaces/parts", bytes(PACK_BYTES_MAX + 1)),
        ("/api/workspaces/parts", bytes(32) + b"\0\0\0\1q"),
    ],
)
def test_what_is_no_manifest_and_no_pack_is_refused_in_words(
    raw: httpx.Client, path: str, body: bytes
) -> None:
    assert problem(raw.post(path, content=body), 422)["code"] == "invalid"


def test_strangers_ship_nothing(stack: RunningStack) -> None:
    with stack.stranger() as stranger:
        problem(stranger.post("/api/workspaces", content=encode(b"{}")), 401)
        problem(stranger.post("/api/workspaces/parts", content=b"x"), 401)
        problem(stranger.get(f"/api/workspaces/{'0' * 64}"), 401)


def test_a_task_names_a_workspace_by_its_digest(api: Api) -> None:
    for config, said in (
        ({"workspace": "../x"}, "workspace"),
        ({"workspace": "0" * 64, "cwd": "/etc"}, "is not inside of the workspace"),
        ({"workspace": "0" * 64, "cwd": "../x"}, "is not inside of the workspace"),
        ({"environment": {"files": ["r.txt"]}}, "name the workspace"),
        ({"environment": {"packagez": []}}, "unknown field 'packagez'"),
        ({"environment": {"python": "new"}}, "no version of Python"),
        ({"environment": {"extras": ["x"]}}, "belong to a project"),
    ):
        task = {"type": "command", "config": {"command": ["true"], **config}}
        told = api.refused(422, "POST", "/api/tasks/submit", json=task)
        assert said in told["message"], told


def test_uploads_have_a_lane_of_their_own(stack: RunningStack) -> None:
    with stack.api() as api:
        api.http.post("/api/workspaces", content=b"x")
        metrics = api.http.get("/api/metrics").text

    assert 'dtest_api_requests_total{answer="accepted",lane="uploads"}' in metrics
