"""Errors as ``{error: {code, message, hint}}``, whatever raised them."""

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dtest.api.models import Problem
from dtest.errors import (
    Conflict,
    DtestError,
    InvalidDocument,
    JournalFull,
    NotFound,
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
    (Unavailable, 503),
)
PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"model": Problem, "description": description}
    for status, description in (
        (400, "Not readable"),
        (401, "No valid token"),
        (403, "Not allowed"),
        (404, "Not found"),
        (409, "Contradicts what is recorded"),
        (422, "Not valid"),
        (503, "The journal cannot be reached"),
        (504, "Not reached in time"),
        (507, "The journal is full"),
    )
}


def problem(status: int, code: str, message: str, hint: str = "") -> JSONResponse:
    """Return an error in the one form."""
    body = {"error": {"code": code, "message": message, "hint": hint}}
    return JSONResponse(body, status_code=status)


def add_problems(app: FastAPI) -> None:
    """Have every error of an application take the one form."""

    @app.exception_handler(DtestError)
    async def failed(_: Request, error: DtestError) -> JSONResponse:
        status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
        return problem(status, error.code, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = jsonable_encoder(error.errors())[0]
        where = ".".join(str(part) for part in first.get("loc", ()))
        text = f"{where}: {first.get('msg', 'not valid')}"
        return problem(422, "invalid", text, "see /api/docs for the form")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not_found", 405: "method_not_allowed"}
        code = codes.get(error.status_code, "refused")
        response = problem(error.status_code, code, str(error.detail), "see /api/docs")
        response.headers.update(error.headers or {})
        return response
