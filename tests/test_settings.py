"""Settings: flag, then environment, then project file, then user file, then stack, then default."""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from dtest.errors import Unavailable, UsageError
from dtest.runtime.stack_file import StackFile, write_stack_file
from dtest.settings import DEFAULTS, FLAGS, KEYS, LIMITS, SECRETS, Settings, load_settings


class Machine:
    """A home directory, a project in it, and whatever they state."""

    def __init__(self, root: Path) -> None:
        self.project = root / "work" / "project"
        self.user_file = root / "config" / "dtest" / "config.toml"
        self.state = root / "state"
        self.env: dict[str, str] = {"DTEST_STATE_DIR": str(self.state)}
        self.flags: dict[str, str | None] = {}
        self.project.mkdir(parents=True)
        self.user_file.parent.mkdir(parents=True)

    def settings(self, cwd: Path | None = None) -> Settings:
        return load_settings(self.flags, env=self.env, cwd=cwd or self.project)

    def states(self, layer: str, key: str, value: str) -> None:
        """Have one of the layers state a value."""
        match layer:
            case "flag":
                self.flags[key] = value
            case "environment":
                self.env[f"DTEST_{key.upper()}"] = value
            case "project":
                (self.project / "dtest.toml").write_text(f'{key} = "{value}"\n')
            case "user":
                self.user_file.write_text(f'{key} = "{value}"\n')
            case "stack":
                self.stack(**{key: value})

    def stack(self, pid: int = os.getpid(), /, **stated: str) -> None:
        """Have a stack run here."""
        content: dict[str, str | None] = {
            **dict.fromkeys(("nats_user", "nats_password", "nats_token", "api_url", "token")),
            "nats_url": "nats://stack",
            **stated,
        }
        started_at = psutil.Process().create_time()
        path = self.state / "main" / "stack.json"
        write_stack_file(path, StackFile("main", pid, started_at, **content))  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("DTEST_", "NATS_"))]:
        monkeypatch.delenv(name)
    return Machine(tmp_path)


LAYERS = ["flag", "environment", "project", "user", "stack"]


@pytest.mark.parametrize("lower", range(1, len(LAYERS)))
@pytest.mark.parametrize("upper", range(len(LAYERS)))
def test_the_upper_layer_wins(machine: Machine, upper: int, lower: int) -> None:
    if upper >= lower:
        return
    for place in (upper, lower):
        machine.states(LAYERS[place], "token", LAYERS[place])

    assert machine.settings().get("token") == LAYERS[upper]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_value_says_where_it_came_from(machine: Machine, layer: str) -> None:
    machine.states(layer, "token", "x")
    words = {
        "flag": FLAGS["token"],
        "environment": "DTEST_TOKEN",
        "project": "dtest.toml",
        "user": "config.toml",
        "stack": "running stack",
    }

    assert words[layer] in machine.settings().values["token"].origin


def test_a_default_is_what_nothing_else_states(machine: Machine) -> None:
    settings = machine.settings()

    assert {key: settings.get(key) for key in DEFAULTS} == DEFAULTS
    assert settings.values["cell"].origin == "default"
    assert settings.get("nats_url") is None


@pytest.mark.parametrize("layer", ["flag", "environment", "project", "user"])
def test_every_layer_overrides_the_default(machine: Machine, layer: str) -> None:
    machine.states(layer, "cell", "other")

    assert machine.settings().cell == "other"


def test_an_empty_value_states_nothing(machine: Machine) -> None:
    machine.flags["cell"] = None
    machine.env["DTEST_CELL"] = ""
    machine.states("user", "cell", "user")

    assert machine.settings().cell == "user"


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_may_stand_in_a_file(machine: Machine, tmp_path: Path, key: str) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    machine.env[f"DTEST_{key.upper()}_FILE"] = str(path)

    assert machine.settings().get(key) == "s3cret"
    machine.env[f"DTEST_{key.upper()}"] = "plain"
    assert machine.settings().get(key) == "plain"


def test_a_secret_in_a_file_goes_before_the_project_file(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret")
    machine.env["DTEST_TOKEN_FILE"] = str(path)
    machine.states("project", "token", "project")

    assert machine.settings().get("token") == "s3cret"


def test_only_secrets_are_read_from_files(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_text("other")
    machine.env["DTEST_CELL_FILE"] = str(path)

    assert machine.settings().cell == "main"


def test_a_file_of_a_secret_that_is_not_there_is_named(machine: Machine) -> None:
    machine.env["DTEST_TOKEN_FILE"] = "/nowhere/at/all"

    with pytest.raises(UsageError, match="DTEST_TOKEN_FILE"):
        machine.settings()


def test_the_variable_of_nats_itself_is_known_and_ours_goes_before_it(machine: Machine) -> None:
    machine.env["NATS_URL"] = "nats://theirs"
    assert machine.settings().get("nats_url") == "nats://theirs"
    machine.env["DTEST_NATS_URL"] = "nats://ours"

    assert machine.settings().get("nats_url") == "nats://ours"


# -- files ----------------------------------------------------------------------------------


def test_the_nearest_project_counts(machine: Machine) -> None:
    (machine.project.parent / "dtest.toml").write_text('cell = "outer"')
    inside = machine.project / "a" / "b"
    inside.mkdir(parents=True)
    assert machine.settings(inside).cell == "outer"
    machine.states("project", "cell", "inner")

    assert machine.settings(inside).cell == "inner"


def test_a_table_in_pyproject_is_the_same_as_the_file(machine: Machine) -> None:
    (machine.project / "pyproject.toml").write_text('[tool.dtest]\ncell = "table"\n')
    assert machine.settings().cell == "table"
    machine.states("project", "cell", "file")

    assert machine.settings().cell == "file"


def test_tables_are_handed_on_whole(machine: Machine) -> None:
    (machine.project / "dtest.toml").write_text('[agent]\nslots = 3\nlabels = {room = "1"}\n')
    machine.user_file.write_text("[agent]\nslots = 9\n")

    assert machine.settings().tables == {"agent": {"slots": 3, "labels": {"room": "1"}}}


def test_tables_tell_which_file_they_are_from(machine: Machine) -> None:
    (machine.project / "pyproject.toml").write_text(
        "[tool.dtest.test]\nworkers = 2\n[[tool.dtest.requirements]]\nhardware = 'cuda'\n"
    )
    machine.user_file.write_text("[agent]\nslots = 9\n[test]\nworkers = 3\n")

    found = machine.settings()

    assert found.tables == {
        "agent": {"slots": 9},
        "requirements": [{"hardware": "cuda"}],
        "test": {"workers": 2},
    }
    assert found.table_origins == {
        "agent": str(machine.user_file),
        "requirements": str(machine.project / "pyproject.toml"),
        "test": str(machine.project / "pyproject.toml"),
    }


@pytest.mark.parametrize(
    "text", ["[tests]\nworkers = 2\n", "test = 2\n", "[requirements]\na = 1\n"]
)
def test_a_table_that_nobody_knows_is_refused_with_those_that_are_known(
    machine: Machine, text: str
) -> None:
    (machine.project / "dtest.toml").write_text(text)

    with pytest.raises(UsageError, match="unknown setting") as caught:
        machine.settings()
    assert "requirements" in caught.value.hint


def test_a_setting_that_nobody_knows_is_refused_with_those_that_are_known(
    machine: Machine,
) -> None:
    machine.states("project", "sell", "x")

    with pytest.raises(UsageError, match="unknown setting 'sell'") as caught:
        machine.settings()
    assert "cell" in caught.value.hint


@pytest.mark.parametrize("content", [b"cell = ", b'cell = "\xff"'])
def test_a_file_that_is_no_toml_is_named(machine: Machine, content: bytes) -> None:
    machine.user_file.write_bytes(content)

    with pytest.raises(UsageError, match=r"config\.toml cannot be read"):
        machine.settings()


# -- stack ----------------------------------------------------------------------------------


def test_a_running_stack_states_its_addresses(machine: Machine) -> None:
    machine.stack(token="t", api_url="http://api")
    settings = machine.settings()

    assert (settings.get("nats_url"), settings.get("token")) == ("nats://stack", "t")


@pytest.mark.parametrize("key", ["nats_url", "api_url"])
@pytest.mark.parametrize("layer", ["flag", "environment", "project", "user"])
def test_whoever_addresses_something_else_gets_nothing_of_the_stack(
    machine: Machine, key: str, layer: str
) -> None:
    machine.stack(token="t")
    machine.states(layer, key, "elsewhere://")
    settings = machine.settings()

    assert settings.get(key) == "elsewhere://"
    assert settings.get("token") is None


def test_a_stack_that_ended_states_nothing(machine: Machine) -> None:
    machine.stack(2**22 + 1)

    assert machine.settings().get("nats_url") is None


def test_what_is_required_and_not_known_is_named_with_the_ways_to_state_it(
    machine: Machine,
) -> None:
    with pytest.raises(Unavailable, match="nats_url") as caught:
        machine.settings().require("nats_url")

    assert "DTEST_NATS_URL" in caught.value.hint
    assert FLAGS["nats_url"] in caught.value.hint
    machine.states("environment", "nats_url", "x")
    assert machine.settings().require("nats_url") == "x"


def test_the_environment_is_that_of_the_process_if_none_is_given(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTEST_CELL", "process")

    assert load_settings(cwd=machine.project).cell == "process"


def test_every_limit_stands_in_its_page_with_its_default() -> None:
    page = (Path(__file__).parents[1] / "docs" / "limits.md").read_text(encoding="utf-8")
    shown = page.replace(",", "")

    for key, (default, _) in LIMITS.items():
        assert f"`{key}`" in page, key
        assert default in shown.partition(f"`{key}`")[2].partition("\n")[0], key


def test_every_setting_is_explained_and_every_flag_states_one() -> None:
    described: Mapping[str, str] = KEYS

    assert all(described.values())
    assert set(FLAGS) <= set(KEYS)
    assert set(DEFAULTS) <= set(KEYS)
    assert set(KEYS) >= SECRETS
