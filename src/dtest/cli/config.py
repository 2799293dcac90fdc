"""``dtest config``: what is set, and where it came from."""

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.settings import KEYS, SECRETS


def view(*, call: CallOptions = DEFAULTS) -> int:
    """Show every setting with its origin; secrets are hidden.

    Example: `dtest config view`
    """
    settings = call.settings()
    rows = []
    for key, meaning in KEYS.items():
        found = settings.values.get(key)
        value = None if found is None else "(hidden)" if key in SECRETS else found.value
        origin = found.origin if found is not None else None
        rows.append({"setting": key, "value": value, "origin": origin, "meaning": meaning})
    if call.json:
        for row in rows:
            output.as_json(row)
    else:
        output.table(rows, ("setting", "value", "origin", "meaning"))
    return 0
