"""Settings: where each comes from, which of several counts, and that none is secret to its user."""

import re
from pathlib import Path

import pytest

from dtest.cli.main import app
from dtest.errors import Unavailable, UsageError
from dtest.settings import FLAGS, KEYS, SECRETS, load_settings
from tests.cli.command import Person

ROOT = Path(__file__).parents[2]
OF_TASKS = {
    *("DTEST_TASK_ID", "DTEST_ATTEMPT", "DTEST_HARDWARE"),
    *("DTEST_ARTIFACT_DIR", "DTEST_CHECKPOINT_DIR"),
}
INTERNAL = {"DTEST_PYTEST_CASES", "DTEST_ATTEMPT_KEY"}
"""How dtest's own processes talk to each other."""


def rows(person: Person) -> dict[str, dict[str, str | None]]:
    return {line["setting"]: line for line in person.here("config", "view", "--json").lines}


def test_every_setting_is_shown_with_its_meaning(person: Person) -> None:
    shown = rows(person)

    assert list(shown) == list(KEYS)
    assert all(row["meaning"] for row in shown.values())
    assert shown["cell"] == {
        "setting": "cell",
        "value": "main",
        "origin": "default",
        "meaning": KEYS["cell"],
    }


def test_a_setting_that_is_read_is_known() -> None:
    read = {
        key
        for path in (ROOT / "src").rglob("*.py")
        for key in re.findall(
            r"settings\.(?:get|require)\(\"(\w+)\"\)", path.read_text(encoding="utf-8")
        )
    }

    assert read
    assert read <= set(KEYS)


def test_a_variable_that_is_written_about_exists() -> None:
    known = {f"DTEST_{key.upper()}" for key in KEYS}
    known |= {f"DTEST_{key.upper()}_FILE" for key in SECRETS}
    files = [ROOT / "justfile", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    files += ROOT.glob("src/**/*.py")
    named = {
        name: str(file)
        for file in files
        for name in re.findall(r"\bDTEST_[A-Z][A-Z_]+[A-Z]\b", file.read_text("utf-8"))
    }

    known |= OF_TASKS | INTERNAL
    assert not {name: file for name, file in named.items() if name not in known}


def test_every_flag_belongs_to_a_setting() -> None:
    options = {
        name
        for argument in app["status"].assemble_argument_collection()
        for name in argument.names
        if name.startswith("--")
    }

    assert set(FLAGS) <= set(KEYS)
    assert options == {*FLAGS.values(), "--json"}


def layered(tmp_path: Path, *, upto: str) -> tuple[Person, tuple[str, ...]]:
    """Somebody with every way to name the cell, up to one."""
    names = ("default", "user", "project", "environment", "flag")
    said = names[: names.index(upto) + 1]
    home, cwd = tmp_path / "home", tmp_path / "project" / "deep"
    cwd.mkdir(parents=True)
    if "user" in said:
        file = home / ".config" / "dtest" / "config.toml"
        file.parent.mkdir(parents=True)
        file.write_text('cell = "of-user"\n')
    if "project" in said:
        (cwd.parent / "dtest.toml").write_text('cell = "of-project"\n')
    env = {"DTEST_CELL": "of-environment"} if "environment" in said else {}
    return Person(home, cwd, env), (("--cell", "of-flag") if "flag" in said else ())


@pytest.mark.parametrize(
    ("upto", "value", "origin"),
    [
        ("default", "main", "default"),
        ("user", "of-user", "file {home}/.config/dtest/config.toml"),
        ("project", "of-project", "file {project}/dtest.toml"),
        ("environment", "of-environment", "environment DTEST_CELL"),
        ("flag", "of-flag", "flag --cell"),
    ],
)
def test_the_nearest_origin_counts(tmp_path: Path, upto: str, value: str, origin: str) -> None:
    person, flags = layered(tmp_path, upto=upto)

    shown = person.here("config", "view", "--json", *flags).lines[0]

    assert shown["value"] == value
    assert shown["origin"] == origin.format(home=person.home, project=person.cwd.parent)


def test_a_pyproject_may_hold_the_settings(person: Person) -> None:
    (person.cwd / "pyproject.toml").write_text('[tool.dtest]\ncell = "in-pyproject"\n')

    assert rows(person)["cell"]["value"] == "in-pyproject"


def test_a_pyproject_of_others_states_nothing(person: Person) -> None:
    (person.cwd / "pyproject.toml").write_text("[project]\nname = 'other'\n")

    assert rows(person)["cell"]["value"] == "main"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('cel = "x"', "unknown setting 'cel'"),
        ("cell = ", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(person: Person, text: str, says: str) -> None:
    (person.cwd / "dtest.toml").write_text(text)

    ended = person.here("config", "view")

    assert ended.code == 2
    assert says in ended.err
    assert str(person.cwd / "dtest.toml") in ended.err


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\ndtest = 1"])
def test_a_pyproject_of_another_shape_is_no_traceback(person: Person, text: str) -> None:
    (person.cwd / "pyproject.toml").write_text(text)

    assert "Traceback" not in person.here("config", "view").err


def test_an_agents_table_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "dtest.toml").write_text("[agent]\nslots = 3\n")

    assert load_settings(env={}, cwd=tmp_path).tables == {"agent": {"slots": 3}}


def test_secrets_may_come_from_files_and_are_never_shown(person: Person) -> None:
    file = person.cwd / "token"
    file.write_text("very secret\n")

    shown = person.at(person.cwd, DTEST_TOKEN_FILE=str(file), DTEST_NATS_PASSWORD="hush")
    text = shown.here("config", "view").out

    assert "very secret" not in text
    assert "hush" not in text
    assert text.count("(hidden)") == 2
    assert f"file {file} by DTEST_TOKEN_FILE" in text


def test_the_usual_variable_of_nats_counts_last(tmp_path: Path) -> None:
    env = {"NATS_URL": "nats://elsewhere:4222"}

    assert load_settings(env=env, cwd=tmp_path).get("nats_url") == "nats://elsewhere:4222"
    named = {**env, "DTEST_NATS_URL": "nats://here:4222"}
    assert load_settings(env=named, cwd=tmp_path).get("nats_url") == "nats://here:4222"


def test_what_is_missing_is_named_with_the_ways_to_say_it(tmp_path: Path) -> None:
    settings = load_settings({"state_dir": str(tmp_path)}, env={}, cwd=tmp_path)

    with pytest.raises(Unavailable, match="no cell is up here") as refused:
        settings.require("nats_url")

    assert "DTEST_NATS_URL or --nats" in refused.value.hint


@pytest.mark.parametrize("cell", [" ", "with space", "a.b", "a/b", "*", "x" * 101, "a\n", "é"])
def test_a_cell_has_a_name_that_a_subject_can_hold(tmp_path: Path, cell: str) -> None:
    with pytest.raises(UsageError, match="cannot name a cell"):
        load_settings(env={"DTEST_CELL": cell}, cwd=tmp_path)


def test_a_purge_stays_below_the_state_directory(person: Person) -> None:
    kept = person.state.parents[1] / "somebody-elses"
    kept.mkdir(parents=True)

    ended = person.here("down", "--purge", "--cell", "../somebody-elses")

    assert ended.code == 2
    assert kept.is_dir()
