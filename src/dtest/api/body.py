"""Bodies of requests: bounded, and JSON that every reader of the journal can read again.

Python's reader takes what JSON does not have (NaN, half characters); what is recorded may not.
"""

import json
from collections.abc import Callable, Coroutine, Sequence
from difflib import get_close_matches
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from dtest.errors import InvalidDocument

BODY_BYTES_MAX = 64 << 20
"""Room for the most tasks of one submission, at 600 bytes each."""


INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 64) - 1
INTEGER_CHARS_MAX = 20
NAME_CHARS_MAX = 100


class StrictRequest(Request):
    """A request whose body is JSON by the letter."""

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body. Raises json.JSONDecodeError."""
        if not hasattr(self, "_json"):
            body = await self.body()
            orjson.loads(body)  # strict, but it rounds integers beyond 64 bits
            self._json = json.loads(body, parse_int=_integer)
        return self._json


def _integer(text: str) -> int:
    value = int(text) if len(text) <= INTEGER_CHARS_MAX else INTEGER_MAX + 1
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        message = f"the integer {text[:INTEGER_CHARS_MAX]} has more than 64 bits"
        raise json.JSONDecodeError(message, text, 0)
    return value


class StrictRoute(APIRoute):
    """A route that reads its bodies so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route."""
        handler = super().get_route_handler()
        known = [each.alias for each in self.dependant.query_params]

        async def strict(request: Request) -> Response:
            for name in request.query_params:
                if name not in known:
                    raise _unknown(name, known)
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


def _unknown(name: str, known: Sequence[str]) -> InvalidDocument:
    """Return the refusal of a word of a query: left alone it would choose less than was meant."""
    near = get_close_matches(name, known, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known) or 'none'}"
    return InvalidDocument(f"unknown query parameter {name[:NAME_CHARS_MAX]!r}", hint=hint)
