"""Who looks at a suite as a whole, and what such a one gets to see.

PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

from typing import Any, Callable

import pytest

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours
ONE_BY_ONE = frozenset(
    {
        *("_pytest", "dtest", "dtest_pytest_recorder", "dtest_pytest_feed", "xdist", "anyio"),
        *("hypothesis", "_hypothesis_pytestplugin", "pytest_asyncio", "pytest_timeout"),
        *("pytest_mock", "pytest_cov", "pytest_benchmark", "pytest_rerunfailures"),
    }
)
"""Packages whose hooks look at each test by itself; of any other that is not known."""
OF_THE_WHOLE = ("pytest_collection_modifyitems", "pytest_collection_finish")
"""Hooks that may rely on seeing the whole suite."""


def relies_on_all(config: pytest.Config) -> bool:
    """Say whether anybody looks at the suite as a whole."""
    for name in OF_THE_WHOLE:
        for implementation in getattr(config.hook, name).get_hookimpls():
            module = getattr(implementation.function, "__module__", None) or ""
            if module.partition(".")[0] not in ONE_BY_ONE:
                return True
    return False


def complete_on_demand(session: pytest.Session, complete: Callable[[pytest.Session], None]) -> None:
    """Have the rest be collected as soon as a fixture or a plug-in looks at all of the tests."""
    kept = vars(session)
    kept["items"] = list(session.items)

    def items(whole: Any) -> list[pytest.Item]:
        complete(whole)
        found: list[pytest.Item] = kept["items"]
        return found

    def replace(_: Any, value: list[pytest.Item]) -> None:
        kept["items"] = value

    session.__class__ = type(  # the same kind of session, that is asked
        type(session).__name__, (type(session),), {"items": property(items, replace)}
    )
