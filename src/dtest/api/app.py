"""The application: routes, errors in one form, and the gate in front."""

from fastapi import FastAPI

import dtest
from dtest.api import (
    attempts,
    breakers,
    events,
    health,
    history,
    output,
    pages,
    policy,
    queues,
    runs,
    suites,
    tasks,
    workers,
    workspaces,
)
from dtest.api.admission import Doorkeeper
from dtest.api.auth import App, Gate
from dtest.api.body import BODY_BYTES_MAX
from dtest.api.context import ApiContext
from dtest.api.login import Logins
from dtest.api.problems import PROBLEMS, DocumentedApp, add_problems

DESCRIPTION = (
    "Read model and submissions of one dtest cell. Every answer reflects a sequence number of "
    "the journal; `?after=<seq>` waits for one."
)


def create_app(context: ApiContext) -> FastAPI:
    """Return the application without its gate."""
    app = DocumentedApp(
        title="dtest",
        version=dtest.__version__,
        description=DESCRIPTION,
        docs_url=None,  # as `pages` has it: nothing of it comes from another server
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=PROBLEMS,
        max_body_size=BODY_BYTES_MAX,
    )
    app.state.context = context
    app.add_middleware(Doorkeeper)
    for module in (
        *(tasks, attempts, runs, suites, workers, workspaces, breakers, policy, queues),
        *(output, history, events, health, pages),
    ):
        app.include_router(module.router)
    add_problems(app)
    return app


def gated(app: FastAPI, *, token: str, host: str, port: int) -> App:
    """Return the application behind its gate, for an address on loopback or a stated host."""
    names = {f"[{host}]" if ":" in host else host, "127.0.0.1", "localhost", "[::1]"}
    hosts = {f"{name}:{port}" for name in names}
    context: ApiContext = app.state.context
    app.state.logins = Logins(token, port=port, now=context.now, nonce=context.new_id)
    return Gate(app, token=token, hosts=hosts, logins=app.state.logins)
