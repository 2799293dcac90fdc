"""Errors as ``{error: {code, message, hint}}``, whatever raised them."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from dtest.api.models import Problem
from dtest.errors import (
    Conflict,
    DtestError,
    InvalidDocument,
    JournalFull,
    NotFound,
    Overloaded,
    PermissionRefused,
    TimedOut,
    Unavailable,
    UsageError,
)

_STATUS: tuple[tuple[type[DtestError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (InvalidDocument, 422),
    (UsageError, 422),
    (PermissionRefused, 403),
    (JournalFull, 507),
    (TimedOut, 504),
)
UNAVAILABLE_RETRY_S = 1
_BROKEN = 500
_REFERENCE = "#/components/schemas/{model}"
_CONTENT = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=Problem.__name__)}}}
PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"content": _CONTENT, "description": description}
    for status, description in (
        (400, "Not readable"),
        (401, "No valid token"),
        (403, "Not allowed"),
        (404, "Not found"),
        (405, "Not a method of this path"),
        (409, "Contradicts what is recorded"),
        (408, "The body did not come in time"),
        (413, "Too large"),
        (422, "Not valid"),
        (429, "A bound is reached for now; `Retry-After` says when to ask again"),
        (503, "The journal cannot be reached; `Retry-After` says when to ask again"),
        (504, "Not reached in time"),
        (507, "The journal is full"),
    )
}


class DocumentedApp(FastAPI):
    """An application whose description holds the form that ``PROBLEMS`` refer to.

    Given as a model, the form would be compiled for each status of each route, at the first
    request: a tenth of the start of the API.
    """

    def openapi(self) -> dict[str, Any]:
        """Return the description."""
        document = super().openapi()
        _, forms = models_json_schema([(Problem, "serialization")], ref_template=_REFERENCE)
        document["components"]["schemas"].update(forms["$defs"])
        return document


def problem(status: int, code: str, message: str, hint: str = "") -> JSONResponse:
    """Return an error in the one form."""
    error = {"code": code, "message": message, "hint": hint}
    body = {"error": {name: _text(value) for name, value in error.items()}}
    return JSONResponse(body, status_code=status)


def overloaded(error: Overloaded) -> JSONResponse:
    """Return 429 with the seconds after which to ask again."""
    response = problem(429, error.code, error.message, error.hint)
    response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def unavailable(error: Unavailable) -> JSONResponse:
    """Return 503 with the seconds after which to ask again: brokers elect, or come back."""
    response = problem(503, error.code, error.message, error.hint)
    response.headers["Retry-After"] = str(UNAVAILABLE_RETRY_S)
    return response


def _text(value: str) -> str:
    """Return what UTF-8 can say: messages quote what was sent."""
    return value.encode(errors="backslashreplace").decode()


def add_problems(app: FastAPI) -> None:
    """Have every error of an application take the one form."""

    @app.exception_handler(DtestError)
    async def failed(_: Request, error: DtestError) -> JSONResponse:
        if isinstance(error, Overloaded):
            return overloaded(error)
        status = next((number for kind, number in _STATUS if isinstance(error, kind)), _BROKEN)
        if isinstance(error, Unavailable) and status == _BROKEN:
            return unavailable(error)
        return problem(status, error.code, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first.get("loc", ()))
        told = first.get("ctx", {}).get("error") if first.get("type") == "json_invalid" else None
        text = f"{where}: {told or first.get('msg', 'not valid')}"
        return problem(422, "invalid", text, "see /api/docs for the form")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not_found", 408: "too_slow", 405: "method_not_allowed", 413: "too_large"}
        code = codes.get(error.status_code, "refused")
        response = problem(error.status_code, code, str(error.detail), "see /api/docs")
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        text = f"{type(error).__name__} inside the API: this is a fault of dtest"
        return problem(500, "internal", text, "the API's log tells more")
