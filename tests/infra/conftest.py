"""The files of infra/nats as an operator installs them: with certificates and passwords made."""

import pytest

pytest.register_assert_rewrite("tests.journal.conformance", "tests.journal.load")

from pathlib import Path  # noqa: E402 - the line above must come first

from tests.infra.installed import Installed, install  # noqa: E402


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(Path(tmp_path_factory.mktemp("infra")))
