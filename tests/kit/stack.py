"""A whole cell for tests: real broker, scheduler, API and agents, and a client of its API.

Starts and asks; states no rule itself.
"""

import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from dtest.events.fields import CellId
from dtest.roles.stack import Stack
from dtest.roles.stack_options import StackOptions
from dtest.runtime.stack_file import StackFile

CELL = CellId("main")
ASK_S_MAX = 30.0
EVENT_S_MAX = 30.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Everything is on loopback: reading a store of certificates would cost each client 30 ms."""

Json = dict[str, Any]


@dataclass(frozen=True)
class RunningStack:
    """A cell that is up."""

    stack: Stack
    file: StackFile

    @property
    def directory(self) -> Path:
        """Where the cell keeps everything."""
        return self.stack.directory

    @property
    def url(self) -> str:
        """Where the API is."""
        assert self.file.api_url is not None
        return self.file.api_url

    @property
    def host(self) -> str:
        """The API's own name, as a Host header."""
        return self.url.removeprefix("http://")

    @property
    def token(self) -> str:
        """The API's token."""
        assert self.file.token is not None
        return self.file.token

    @contextmanager
    def api(self) -> Iterator["Api"]:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(
            base_url=self.url, headers=headers, timeout=ASK_S_MAX, verify=NO_TLS
        ) as http:
            yield Api(self, http)

    @contextmanager
    def stranger(self, **headers: str) -> Iterator[httpx.Client]:
        """A client without the token."""
        with httpx.Client(
            base_url=self.url, headers=headers, timeout=ASK_S_MAX, verify=NO_TLS
        ) as http:
            yield http

    @contextmanager
    def events(self, after: int = 0, *types: str, **options: Any) -> Iterator["EventStream"]:
        """The event stream by WebSocket."""
        query = f"after={after}" + (f"&types={','.join(types)}" if types else "")
        options.setdefault("additional_headers", {"Authorization": f"Bearer {self.token}"})
        address = f"ws://{self.host}/api/events/stream?{query}"
        with connect(address, open_timeout=ASK_S_MAX, proxy=None, **options) as socket:
            yield EventStream(socket)


class EventStream:
    """Messages of the journal as they come by WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def message(self) -> Json:
        """The next one. Raises TimeoutError."""
        return dict(json.loads(self.socket.recv(timeout=EVENT_S_MAX)))

    def until(self, wire_type: str, subject: str) -> int:
        """Wait for an event about a subject; return its sequence number."""
        while True:
            message = self.message()
            for event in message["events"]:
                if event["type"] == wire_type and event["subject"] == subject:
                    return int(message["seq"])


class Api:
    """The API with words for what tests do with it."""

    def __init__(self, stack: RunningStack, http: httpx.Client) -> None:
        self.stack = stack
        self.http = http

    def get(self, path: str, **query: Any) -> Json:
        """Ask; the answer must be good."""
        return dict(self._good(self.http.get(path, params=query)).json())

    def post(self, path: str, body: Any = None, **headers: str) -> Json:
        """Tell; the answer must be good."""
        return dict(self._good(self.http.post(path, json=body, headers=headers)).json())

    def refused(self, status: int, method: str, path: str, **options: Any) -> Json:
        """Ask for what must be refused with that status; return the error."""
        return problem(self.http.request(method, path, **options), status)

    def _good(self, answer: httpx.Response) -> httpx.Response:
        assert answer.is_success, f"{answer.status_code} {answer.text}"
        return answer

    def submit(self, *tasks: Json, name: str = "tests", **more: Any) -> Json:
        """Submit a batch."""
        return self.post("/api/tasks/submit", {"tasks": list(tasks), "name": name, **more})

    def items(self, path: str, **query: Any) -> list[Json]:
        """All items of a list, page by page."""
        items: list[Json] = []
        cursor: str | None = None
        while True:
            page = self.get(path, **query, **({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def finished(self, task_id: str, *, after: int = 0) -> Json:
        """Wait until a task's attempt ended; return the task as shown then."""
        with self.stack.events(after, "attempt.finished") as stream:
            seq = stream.until("dev.dtest.attempt.finished.v1", task_id)
        return self.get(f"/api/tasks/{task_id}", after=seq)


def problem(answer: httpx.Response, status: int) -> Json:
    """The error of an answer: in the one form, with that status."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:2000]}"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert all(isinstance(text, str) for text in body["error"].values())
    assert body["error"]["code"]
    assert body["error"]["message"]
    return dict(body["error"])


def simulated(outcome: str = "passed", seconds: float = 0.0, **more: Any) -> Json:
    """A task that a simulated worker does in so many seconds."""
    config = {"command": ["true"], "simulate": {"seconds": seconds, "outcome": outcome}}
    needs = {"labels": {"simulated": "true"}}
    return {"type": "command", "config": config, "requirements": needs, **more}


def command(*words: str, **more: Any) -> Json:
    """A task that a real worker runs."""
    return {"type": "command", "config": {"command": list(words)}, **more}


def never(**more: Any) -> Json:
    """A task that waits for hardware that nobody has."""
    return simulated(**{"requirements": {"hardware": ["qnn"]}, **more})


@asynccontextmanager
async def stack_up(**options: Any) -> AsyncIterator[RunningStack]:
    """A cell in a directory that every user of the machine may enter, down to the cell's own."""
    with _place() as parent:
        stack = Stack(StackOptions(CELL, parent / "state", **options))
        file = await stack.start()
        try:
            yield RunningStack(stack, file)
        finally:
            await stack.stop()


@contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dtest-stack-") as name:
        parent = Path(name)
        parent.chmod(0o755)
        yield parent
