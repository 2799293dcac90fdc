"""Finds runs by what people call them."""

from dtest.api.context import ApiContext
from dtest.errors import NotFound
from dtest.events.fields import RunId


def find_run(context: ApiContext, name: str) -> RunId:
    """Return a run by its id, a unique beginning of it, or ``@last``. Raises NotFound."""
    cell = context.projector.rows.cell
    runs = cell.runs
    known = list(runs.values())  # a copy: the projector's thread adds to them
    # One whose tasks were refused is no run.
    filled = [run for run in known if run.task_ids or run.id in cell.suites]
    if name == "@last" and filled:
        return max(filled, key=lambda run: run.opened_at).id
    if RunId(name) in runs:
        return RunId(name)
    begins = [run.id for run in known if run.id.startswith(name)][:2] if name else []
    if len(begins) == 1:
        return begins[0]
    message = f"{'more than one' if begins else 'no'} run is called {name!r}"
    raise NotFound(message, hint="`dtest run ls` lists the runs")
