"""How hard hypothesis tries, chosen by DTEST_HYPOTHESIS_PROFILE; and the loop of async tests."""

import os

import pytest
from hypothesis import settings

# Rules that several folders share speak by assert, too: to be said before anybody imports them.
pytest.register_assert_rewrite("tests.journal.conformance", "tests.journal.load")

# No deadline: a slow machine is no bug. Derandomised: a red run is red again.
settings.register_profile("default", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=200, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("DTEST_HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
