"""``dtest db``: ask the read model by SQL."""

from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions


def query(sql: str, *, call: CallOptions = DEFAULTS) -> int:
    """Run one SELECT over the read model (DuckDB).

    Example: `dtest db query "SELECT status, count(*) FROM tasks GROUP BY 1"`

    Parameters
    ----------
    sql
        The statement. Tables: runs, tasks, attempts, testcases, workers, telemetry, events,
        leaders; views: run_summary, testcase_verdicts.
    """
    found = open_api(call.settings()).post("/api/query", {"sql": sql})
    records = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]
    if call.json:
        for record in records:
            output.as_json(record)
    else:
        output.table(records, found["columns"])
    if found["truncated"]:
        output.say(f"only the first {len(records)} rows are shown; narrow the query")
    return 0
