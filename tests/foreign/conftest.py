"""Interpreters of tested projects, and the trouble cases from practice."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Person
from tests.kit.environments import environment

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
PLUGINS = (
    *("pytest==9.2.*", "pytest-xdist==3.8.*", "pytest-cov==7.*", "time-machine==2.*"),
    *("pytest-split==0.11.*", "freezegun==1.5.*", "pyfakefs==5.*"),
)
Environment = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They need an index of packages, and minutes."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.foreign)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Makes an environment, or finds it made."""
    root = tmp_path_factory.getbasetemp().parent / "environments"
    return lambda name, *requirements: environment(root, name, requirements)


@pytest.fixture(scope="session")
def plugged(made: Environment) -> str:
    """An interpreter with the plug-ins that cases name."""
    return made("plugins", *PLUGINS)


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Somebody whose pytest finds its plug-ins by itself."""
    home = tmp_path / "home"
    home.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    return Person(home, work, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""})


@pytest.fixture
def case(person: Person) -> Callable[[str], Person]:
    """Copies a trouble case; the person stands in it."""

    def copied(name: str) -> Person:
        if not CASES.is_dir():
            assert not os.environ.get("CI"), f"{CASES} is not here, and CI needs it"
            pytest.skip(f"the trouble cases are not here: {CASES}")
        (found,) = CASES.glob(f"{name}-*")
        place = person.cwd / name
        shutil.copytree(found, place)
        return person.at(place)

    return copied
