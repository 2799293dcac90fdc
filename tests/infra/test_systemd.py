"""infra/systemd: the units are units, and start what exists with settings that exist."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dtest.settings import KEYS, SECRETS, load_settings
from tests.cli.test_help import ALL
from tests.infra.installed import INFRA

UNITS = sorted((INFRA / "systemd").glob("*.service"))
PROGRAMS = Path(sys.executable).parent
SECTIONS = {
    "Unit": {"Description", "After", "Wants", "StartLimitIntervalSec"},
    "Service": {
        *(
            "User",
            "Group",
            "EnvironmentFile",
            "WorkingDirectory",
            "ExecStart",
            "ExecReload",
            "Restart",
            "RestartSec",
        ),
        *("KillSignal", "KillMode", "TimeoutStopSec", "LimitNOFILE", "StateDirectory"),
        *("StateDirectoryMode", "NoNewPrivileges", "PrivateTmp", "ProtectHome", "ProtectSystem"),
    },
    "Install": {"WantedBy"},
}


def unit(path: Path) -> configparser.ConfigParser:
    """A unit's content; a setting that stands twice is an error."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_is_a_unit_for_each_part() -> None:
    names = [path.stem for path in UNITS]

    assert names == [
        "dtest-agent",
        "dtest-api",
        "dtest-conductor",
        "dtest-scheduler",
        "nats-server",
    ]


def test_a_unit_says_known_things_only(path: Path) -> None:
    content = unit(path)

    assert set(content.sections()) == set(SECTIONS)
    for section, known in SECTIONS.items():
        assert set(content[section]) <= known
    assert content["Service"]["Restart"] == "always"


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd here: read strictly instead"
)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    text = path.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/dtest/bin", str(PROGRAMS)), encoding="utf-8")

    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )

    said = [line for line in (ended.stdout + ended.stderr).splitlines() if path.name in line]
    assert (ended.returncode, said) == (0, [])


def test_a_unit_starts_a_program_and_a_command_that_exist(path: Path) -> None:
    program, *words = unit(path)["Service"]["ExecStart"].split()

    assert program.startswith("/opt/dtest/bin/")
    assert (PROGRAMS / Path(program).name).is_file()
    if program.endswith("/dtest"):
        assert " ".join(words) in ALL
    if program.endswith("/nats-server"):
        assert (INFRA / "nats" / Path(words[-1]).name).is_file()


def test_attempts_outlive_the_agent_and_nothing_outlives_the_others() -> None:
    modes = {path.stem: unit(path)["Service"].get("KillMode") for path in UNITS}

    assert modes.pop("dtest-agent") == "process"
    assert set(modes.values()) == {None}


def test_an_agent_has_more_time_to_stop_than_its_attempts() -> None:
    service = unit(INFRA / "systemd" / "dtest-agent.service")["Service"]
    drain = re.search(r"--drain-seconds (\d+)", service["ExecStart"])

    assert drain is not None
    assert int(service["TimeoutStopSec"]) > int(drain[1])


def test_the_settings_are_settings(tmp_path: Path) -> None:
    text = (INFRA / "systemd" / "dtest.env").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stated = dict(line.split("=", 1) for line in lines)
    known = {f"DTEST_{key.upper()}" for key in KEYS}
    files = {f"DTEST_{key.upper()}_FILE" for key in SECRETS}
    for name in files & set(stated):
        secret = tmp_path / name
        secret.write_text("secret", encoding="utf-8")
        stated[name] = str(secret)

    settings = load_settings(env=stated, cwd=tmp_path)

    assert set(stated) <= known | files
    assert settings.get("token") == settings.get("nats_password") == "secret"
    assert settings.require("nats_url").count("tls://") == 3


def test_the_units_read_the_files_that_stand_beside_them() -> None:
    read = {unit(path)["Service"]["EnvironmentFile"] for path in UNITS}

    assert {Path(name).name for name in read} == {
        path.name for path in (INFRA / "systemd").glob("*.env")
    }
