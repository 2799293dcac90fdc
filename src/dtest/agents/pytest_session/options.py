"""The options that are for a whole run, by the list that sessions have beside pytest."""

from __future__ import annotations

import importlib.util
import os

from dtest.agents.pytest_session.session import PLUGIN_DIRECTORY

LIST = "dtest_pytest_options"


def whole_run_options() -> frozenset[str]:
    """Return them as they are written. That list imports nothing, so it can be loaded here."""
    place = os.path.join(PLUGIN_DIRECTORY, f"{LIST}.py")
    spec = importlib.util.spec_from_file_location(LIST, place)
    if spec is None or spec.loader is None:
        raise ImportError(place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return frozenset(each.option for each in module.FILES)
