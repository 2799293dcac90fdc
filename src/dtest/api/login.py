"""A person's way in: a link that works once, and the cookie that it becomes. Pure.

Both are signed with the API's token, so that whoever holds the token can make a link without
asking, and a cookie outlives a restart of the API. Neither shows the token.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie

LINK_S_MAX = 600.0
"""How long a link works, seconds."""
COOKIE_S_MAX = 12 * 3600.0
"""How long a person stays logged in, seconds."""
CLOCK_S = 1.0
"""Links state whole seconds."""
PATH = "/login"
_LINK, _COOKIE = b"link", b"cookie"


def link_path(token: str, *, now: float, nonce: str) -> str:
    """Return the path of a link that logs a browser in, once."""
    return f"{PATH}?code={_signed(token, _LINK, now + LINK_S_MAX, nonce)}"


class Logins:
    """What one API knows of links and cookies."""

    def __init__(
        self, token: str, *, port: int, now: Callable[[], float], nonce: Callable[[], str]
    ) -> None:
        self.name = f"dtest_login_{port}"
        """Of the cookie: browsers send a host's cookies to all its ports."""
        self._token = token
        self._now = now
        self._since = now()
        """Which links were used before that is not known any more."""
        self._nonce = nonce
        self._used: dict[str, float] = {}
        """The nonces of links that were used, each until its link would have expired."""

    def cookie_for(self, code: str) -> str | None:
        """Return the value of a cookie for a link's code; none if that is wrong, old or used."""
        now = self._now()
        self._used = {nonce: until for nonce, until in self._used.items() if until > now}
        found = _found(self._token, _LINK, code, now)
        if found is None:
            return None
        until, nonce = found
        if nonce in self._used or until - LINK_S_MAX < self._since - CLOCK_S:
            return None
        self._used[nonce] = now + LINK_S_MAX
        return _signed(self._token, _COOKIE, now + COOKIE_S_MAX, self._nonce())

    def is_logged_in(self, header: str) -> bool:
        """Say whether a Cookie header holds a login that is still good."""
        try:
            found = SimpleCookie(header).get(self.name)
        except CookieError:
            return False
        return (
            found is not None and _found(self._token, _COOKIE, found.value, self._now()) is not None
        )


def _signed(token: str, kind: bytes, until: float, nonce: str) -> str:
    stated = f"{until:.0f}.{nonce}"
    return f"{stated}.{_signature(token, kind, stated)}"


def _signature(token: str, kind: bytes, stated: str) -> str:
    return hmac.new(token.encode(), kind + b" " + stated.encode(), sha256).hexdigest()


def _found(token: str, kind: bytes, text: str, now: float) -> tuple[float, str] | None:
    """Return end and nonce of what was signed for this and is not over."""
    stated, _, given = text.rpartition(".")
    until, _, nonce = stated.partition(".")
    signature = _signature(token, kind, stated)
    if not hmac.compare_digest(given.encode(), signature.encode()):
        return None
    return (float(until), nonce) if float(until) > now else None
