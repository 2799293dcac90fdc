"""All that is known of a run is told line by line, and is what the pages tell."""

import json
import sys

import pytest

from dtest.caller.api_client import ApiClient
from dtest.caller.gathering import gather
from dtest.errors import NotFound
from tests.kit.stack import Api, RunningStack

SUITE = """
import pytest

@pytest.mark.parametrize("n", range(2_500))
def test_n(n, record_property):
    record_property("n", n)
    assert n % 500 != 7
"""


@pytest.fixture(scope="module")
def run(api: Api, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of more tests than a page holds."""
    home = tmp_path_factory.mktemp("lines")
    (home / "test_it.py").write_text(SUITE)
    config = {"cwd": str(home), "paths": ["test_it.py"], "python": sys.executable}
    answer = api.submit({"type": "test", "config": config})
    task = answer["tasks"][0]["task_id"]
    api.get(f"/api/tasks/{task}", after=api.finished(task, after=answer["seq"] - 1)["as_of_seq"])
    return str(answer["run_id"])


def test_the_lines_are_what_the_pages_hold(api: Api, run: str) -> None:
    pages = api.items("/api/testcases", run_id=run, limit=1_000)

    answer = api.http.get(f"/api/runs/{run}/testcases.jsonl")

    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *lines, end = [json.loads(line) for line in answer.text.splitlines()]
    assert end == {"end": len(lines)} == {"end": 2_500}
    assert lines == pages[::-1]
    assert lines[3]["properties"] == [["n", "3"]]


def test_a_caller_reads_them_as_they_come(stack: RunningStack, run: str) -> None:
    client = ApiClient(stack.url, stack.token, busy_wait_s=0.0)

    report = gather(client, run)

    assert report.counts == {"failed": 5, "passed": 2_495}
    with pytest.raises(NotFound):
        client.lines("/api/runs/nobody/testcases.jsonl", dict)


def test_what_is_new_is_found_from_a_place_on(api: Api, run: str) -> None:
    pages = api.items("/api/testcases", run_id=run, limit=1_000)
    since = pages[len(pages) // 2]["seq"]

    found = api.items("/api/testcases", run_id=run, since=since, limit=1_000)

    assert found == [each for each in pages if each["seq"] >= since]
    assert 0 < len(found) < len(pages)
