"""What a browser opens: the way in, the cell on one page, and the API's own documentation.

Everything that a page needs comes from here: Swagger UI lies in the wheel of fastapi-offline.
"""

from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

import dtest
from dtest.api.context import Context
from dtest.api.health import status
from dtest.api.login import COOKIE_S_MAX, PATH, Logins
from dtest.errors import NotFound, PermissionRefused

router = APIRouter(include_in_schema=False)

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
"""Files of the wheel that are served, with their types."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
RUNS = """
SELECT runs.run_id, runs.name, runs.opened_at, count(tasks.task_id) AS tasks,
    count(*) FILTER (tasks.status = 'passed') AS passed,
    count(*) FILTER (tasks.status IN ('failed', 'errored')) AS failed
FROM runs LEFT JOIN tasks USING (run_id) GROUP BY ALL ORDER BY runs.opened_at DESC LIMIT 20
"""
WORKERS = """
SELECT worker_id, status, running, slots, hardware, host FROM workers ORDER BY worker_id LIMIT 100
"""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1c2024; background: #fff }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #d9dde3 }
th { font-weight: 600 }
@media (prefers-color-scheme: dark) { body { color: #e6e8eb; background: #16181b }
  th, td { border-color: #33383f } a { color: #8ab8ff } }
"""


@router.get(PATH)
async def log_in(request: Request, code: Annotated[str, Query(max_length=500)] = "") -> Any:  # noqa: ANN401 - a redirection
    """Take the code of a link for a cookie, and go on to the first page."""
    logins: Logins = request.app.state.logins
    cookie = logins.cookie_for(code)
    if cookie is None:
        message = "this link was used, or is too old"
        raise PermissionRefused(message, hint="`dtest login` prints a new one")
    answer = RedirectResponse("/", status_code=303, headers=HEADERS)
    answer.set_cookie(
        logins.name, cookie, max_age=int(COOKIE_S_MAX), httponly=True, samesite="strict"
    )
    return answer


@router.get("/")
async def front(context: Context) -> HTMLResponse:
    """Show the cell in one view."""
    shown = await status(context)
    runs = (await context.read(RUNS)).records()
    workers = (await context.read(WORKERS)).records()
    facts = [
        ("leader", f"{shown['leader_id'] or 'none'} (epoch {shown['epoch']})"),
        ("tasks", _sums(shown["tasks"])),
        ("workers", _sums(shown["workers"])),
        ("journal", f"at {shown['journal']['last_seq']}, {shown['journal']['state']}"),
    ]
    title = f"dtest: cell {shown['cell']}"
    body = (
        f"<h1>{escape(title)}</h1>"
        '<p><a href="/api/docs">The API</a></p>'
        f"<table>{''.join(_row(fact, head=True) for fact in facts)}</table>"
        f"<h2>Runs</h2>{_table(runs)}<h2>Workers</h2>{_table(workers)}"
        f"<p>dtest {escape(dtest.__version__)}</p>"
    )
    return HTMLResponse(_page(title, body), headers=HEADERS)


@router.get("/api/docs")
async def docs() -> HTMLResponse:
    """Show the API's documentation, where requests can be tried."""
    page = get_swagger_ui_html(
        openapi_url="/api/openapi.json",
        title="dtest: the API",
        swagger_js_url="/assets/swagger-ui-bundle.js",
        swagger_css_url="/assets/swagger-ui.css",
        swagger_favicon_url="/assets/favicon.png",
    )
    return HTMLResponse(page.body, headers=HEADERS)


@router.get("/assets/{name}")
async def asset(name: str) -> FileResponse:
    """Return a file that the documentation needs."""
    found = find_spec("fastapi_offline")
    if name not in ASSETS or found is None or found.origin is None:
        message = f"there is no file {name!r}"
        raise NotFound(message, hint=f"there are {', '.join(ASSETS)}")
    path = Path(found.origin).with_name("static") / name
    return FileResponse(path, media_type=ASSETS[name])


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="/assets/favicon.png"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )


def _table(records: list[dict[str, Any]]) -> str:
    if not records:
        return "<p>none</p>"
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in records[0])
    rows = "".join(_row(list(record.values())) for record in records)
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _row(values: Any, *, head: bool = False) -> str:  # noqa: ANN401 - any sequence
    first, *rest = ("" if value is None else escape(str(value)) for value in values)
    begun = f'<th scope="row">{first}</th>' if head else f"<td>{first}</td>"
    return f"<tr>{begun}{''.join(f'<td>{value}</td>' for value in rest)}</tr>"


def _sums(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
