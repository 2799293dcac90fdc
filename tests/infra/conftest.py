"""The files of infra/nats as an operator installs them: with certificates and passwords made."""

from pathlib import Path

import pytest

from tests.infra.installed import Installed, install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(Path(tmp_path_factory.mktemp("infra")))
