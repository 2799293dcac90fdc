"""The API does what its OpenAPI document says, whatever is sent to it (schemathesis)."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dtest.api.app import create_app
from tests.kit.stack import RunningStack, never, simulated, stack_up

EXAMPLES = 10
EXAMPLES_SLOW = 300
WAIT_S = 0.05
"""Most of what a request is to wait for something that will not come."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

schema = schemathesis.openapi.from_dict(create_app(cast("Any", None)).openapi())


@pytest.fixture(scope="module")
async def fuzzed(anyio_backend: str) -> AsyncIterator[RunningStack]:
    """A cell of its own: the workers that are made up here would get the tasks of others."""
    async with stack_up(workers=0, simulate="cpu:1", simulate_seconds=0.0) as running:
        with running.api() as api:
            api.submit(simulated(task_id="a", run_id="b"), never(task_id="c"))
        yield running


def bounded(examples: int) -> settings:
    """So many examples of each operation, always the same."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def check(case: schemathesis.Case[Any], stack: RunningStack) -> None:
    query = case.query or {}
    if "wait_s" in query:
        with suppress(TypeError, ValueError):
            query["wait_s"] = min(float(query["wait_s"]), WAIT_S)
    headers = {"Authorization": f"Bearer {stack.token}"}
    case.call_and_validate(base_url=stack.url, headers=headers, checks=CHECKS)


@schema.parametrize()
@bounded(EXAMPLES)
def test_every_operation_answers_as_documented(
    case: schemathesis.Case[Any], fuzzed: RunningStack
) -> None:
    check(case, fuzzed)


@pytest.mark.slow
@schema.parametrize()
@bounded(EXAMPLES_SLOW)
def test_every_operation_answers_as_documented_to_many_more(
    case: schemathesis.Case[Any], fuzzed: RunningStack
) -> None:
    check(case, fuzzed)


def test_the_document_names_every_path_of_the_mission() -> None:
    paths = set(create_app(cast("Any", None)).openapi()["paths"])

    assert paths >= {
        "/api/workers",
        "/api/workers/register",
        "/api/workers/status",
        "/api/tasks",
        "/api/tasks/submit",
        "/api/tasks/{task_id}",
        "/api/results/{task_id}",
        "/api/attempts",
        "/api/status",
        "/api/health",
        "/api/health/db",
        "/api/health/resources",
        "/api/metrics",
    }


def test_every_operation_documents_its_refusals() -> None:
    document = create_app(cast("Any", None)).openapi()

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            for status in ("401", "403", "404", "405", "409", "413", "422", "503"):
                told = operation["responses"][status]["content"]["application/json"]["schema"]
                assert told == {"$ref": "#/components/schemas/Problem"}, (method, path, status)
