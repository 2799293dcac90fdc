"""A browser's way in: a link that works once, a cookie, and what a cookie may not do."""

import re
import time
import uuid
from http.cookies import SimpleCookie
from itertools import count

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from dtest.api.login import COOKIE_S_MAX, LINK_S_MAX, Logins, link_path
from tests.kit.stack import RunningStack, never, problem

NOW = 1_000_000.0
TOKEN = "of this API"
ANYWHERE = re.compile(r"(?:src|href|url)\s*[=:(]\s*['\"]?(https?:)?//")


class Clock:
    """Stands until it is advanced."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def logins(clock: Clock, token: str = TOKEN) -> Logins:
    numbers = count()
    return Logins(token, port=80, now=clock, nonce=lambda: f"nonce-{next(numbers)}")


def code(token: str = TOKEN, nonce: str = "n") -> str:
    return link_path(token, now=NOW, nonce=nonce).partition("code=")[2]


def test_a_link_becomes_a_cookie_once() -> None:
    found = logins(Clock())
    cookie = found.cookie_for(code())

    assert cookie is not None
    assert found.is_logged_in(f"other=1; {found.name}={cookie}")
    assert found.cookie_for(code()) is None
    assert found.cookie_for(code(nonce="m")) not in (None, cookie)


def test_links_and_cookies_end() -> None:
    clock = Clock()
    found = logins(clock)
    cookie = found.cookie_for(code())

    clock.now += LINK_S_MAX + 1
    assert found.cookie_for(code(nonce="late")) is None
    assert found.cookie_for(code()) is None, "what was used is still worth nothing"
    assert found.is_logged_in(f"{found.name}={cookie}")
    clock.now = NOW + COOKIE_S_MAX + 1
    assert not found.is_logged_in(f"{found.name}={cookie}")


def test_a_cookie_outlives_its_api_and_is_no_good_at_another() -> None:
    cookie = logins(Clock()).cookie_for(code())

    again, other = logins(Clock()), logins(Clock(), token="another")
    assert again.cookie_for(code(nonce="made before")) is not None, "in the same second"
    late = Clock()
    late.now += 5
    assert logins(late).cookie_for(code()) is None, "what was used before is not known any more"
    assert again.is_logged_in(f"{again.name}={cookie}")
    assert not other.is_logged_in(f"{other.name}={cookie}")


@pytest.mark.parametrize(
    "given",
    ["", ".", "..", "9999999999.n.", "nan.n.x", "9999999999..", "inf.n.0", "é.n.ö", "1.2.3.4.5"],
)
def test_what_nobody_signed_is_nothing(given: str) -> None:
    found = logins(Clock())

    assert found.cookie_for(given) is None
    assert not found.is_logged_in(f"{found.name}={given}")
    assert not found.is_logged_in(given)


def test_a_link_is_no_cookie_and_a_cookie_no_link() -> None:
    found = logins(Clock())
    cookie = found.cookie_for(code())
    assert cookie is not None

    assert not found.is_logged_in(f"{found.name}={code(nonce='other')}")
    assert found.cookie_for(cookie) is None


# -- in a cell ------------------------------------------------------------------------------------


def link(stack: RunningStack) -> str:
    return link_path(stack.token, now=time.time(), nonce=uuid.uuid4().hex)


def logged_in(http: httpx.Client, stack: RunningStack) -> str:
    """Open a link; return the cookie as a header."""
    answer = http.get(link(stack))
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    (name, morsel), *more = SimpleCookie(answer.headers["set-cookie"]).items()
    assert not more
    assert morsel["httponly"]
    assert morsel["samesite"].lower() == "strict"
    assert stack.token not in answer.headers["set-cookie"]
    return f"{name}={morsel.value}"


def test_a_link_opens_the_pages_and_everything_on_them_comes_from_here(
    stack: RunningStack,
) -> None:
    with stack.stranger() as http:
        cookie = {"cookie": logged_in(http, stack)}
        front = http.get("/", headers=cookie)
        docs = http.get("/api/docs", headers=cookie)

        for page in (front, docs):
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            assert not ANYWHERE.search(page.text), page.text
        assert "dtest: cell main" in front.text
        for name in set(re.findall(r'"(/assets/[^"]+)"', docs.text)):
            asset = http.get(name, headers=cookie)
            assert asset.status_code == 200
            assert len(asset.content) > 1_000
        assert http.get("/api/openapi.json", headers=cookie).status_code == 200
        problem(http.get("/assets/../pages.py", headers=cookie), 404)
        problem(http.get("/assets/core.py", headers=cookie), 404)


def test_names_are_shown_as_they_are(stack: RunningStack) -> None:
    with stack.api() as api, stack.stranger() as http:
        api.submit(never(), name="<script>alert(1)</script>")
        page = http.get("/", headers={"cookie": logged_in(http, stack)})

    assert "&lt;script&gt;" in page.text
    assert "<script>alert" not in page.text


def test_a_link_works_once(stack: RunningStack) -> None:
    path = link(stack)
    with stack.stranger() as http:
        assert http.get(path).status_code == 303
        error = problem(http.get(path), 403)
        assert "`dtest login`" in error["hint"]
        problem(http.get("/login"), 403)
        problem(http.get("/login", params={"code": "x" * 400}), 403)
        problem(http.post(path), 405)


def test_a_cookie_changes_nothing(stack: RunningStack) -> None:
    with stack.stranger() as http:
        cookie = {"cookie": logged_in(http, stack)}
        submit = "/api/tasks/submit"

        problem(http.post(submit, json=never(), headers=cookie), 401)
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            problem(http.post(submit, json=never(), headers={**cookie, "origin": origin}), 403)
        problem(http.post(submit, json=never(), headers={**cookie, "origin": stack.url}), 401)


def test_the_event_stream_takes_a_cookie_of_this_origin_alone(stack: RunningStack) -> None:
    with stack.stranger() as http:
        cookie = {"Cookie": logged_in(http, stack)}

    with stack.events(additional_headers={**cookie, "Origin": stack.url}) as events:
        assert events.message()["seq"] == 1
    for more in ({}, {"Origin": "https://evil.example"}):
        with (
            pytest.raises(InvalidStatus),
            stack.events(additional_headers={**cookie, **more}),
        ):
            pass
