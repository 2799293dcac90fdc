"""The client of the API by itself: addresses that are none, answers of something else."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

import pytest

from dtest.caller.api_client import ApiClient
from dtest.errors import DtestError, NotFound, PermissionRefused, Unavailable


class Other(BaseHTTPRequestHandler):
    """Something else that speaks HTTP: its path says the status and what it answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        status, _, rest = self.path.removeprefix("/").partition("/")
        said = self.headers["Authorization"].encode("latin-1")
        told = unquote(rest.removeprefix("raw/")) if rest.startswith("raw/") else rest
        body = told.encode() if rest != "token" else said
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of that."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def client(url: str, token: str = "t") -> ApiClient:  # noqa: S107 - no secret
    return ApiClient(url, token, busy_wait_s=0.0)


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        "http://127.0.0.1:1",
        "http://x:99999",
        "ftp://a",
        "http://[::1",
        "http://ü:80",
        "",
    ],
)
def test_what_is_no_address_has_no_api(address: str) -> None:
    with pytest.raises(Unavailable, match="no API answers at") as caught:
        client(address).get("/api/runs")

    assert "DTEST_API_URL" in caught.value.hint


@pytest.mark.parametrize("body", ["hello", "1", "[1]"])
def test_what_answers_without_a_document_is_no_api(url: str, body: str) -> None:
    with pytest.raises(Unavailable, match="is no API of dtest"):
        client(url).get(f"/200/{body}")


@pytest.mark.parametrize(
    "body", ["hello", '{"a":1}', "", '{"a":1}\n[1', '{"a":1}\n', '{"a":1}\n{"end":2}\n', "[1]\n"]
)
def test_lines_that_are_none_or_break_off_are_no_answer(url: str, body: str) -> None:
    with pytest.raises(Unavailable, match=r"is no API of dtest|broke off"):
        client(url).lines(f"/200/raw/{body}", dict)


def test_lines_with_their_end_are_an_answer(url: str) -> None:
    body = '{"a":1}\n{"a":2}\n{"end":2}\n'

    assert client(url).lines(f"/200/raw/{body}", dict) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, PermissionRefused), (404, NotFound), (302, DtestError)]
)
def test_a_refusal_without_words_is_told_by_its_status(
    url: str, status: int, kind: type[DtestError]
) -> None:
    with pytest.raises(kind, match=f"HTTP {status}"):
        client(url).get(f"/{status}/x")


def test_names_and_tokens_may_hold_any_character(url: str) -> None:
    assert client(url, "ä").content("/200/token") == "Bearer ä".encode()
    assert client(url).content("/200/a b?c#ü") == b"a%20b%3Fc%23%C3%BC"
    assert client(url).content("/200/x", of=["a&b", "c"], none=None) == b"x?of=a%26b&of=c"
