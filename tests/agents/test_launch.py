"""What is started for an assignment: arguments, directory, environment, visible devices."""

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dtest.agents.launch import launch, write_inputs
from dtest.agents.pytest_session import SESSION_MODULE
from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId, WorkerId

HERE = Path("/slots/0000")


def assigned(config: dict[str, Any], kind: str = "command", **more: Any) -> AttemptAssigned:
    more.setdefault("hardware", "cpu")
    return AttemptAssigned(TaskId("t"), 2, WorkerId("w"), "i1", type=kind, config=config, **more)


def test_a_list_is_started_as_it_is_and_a_line_by_the_shell() -> None:
    as_list = launch(assigned({"command": ["echo", "$HOME"]}), HERE)
    as_line = launch(assigned({"command": "echo $HOME"}), HERE)

    assert tuple(as_list.argv) == ("echo", "$HOME")
    assert tuple(as_line.argv) == ("/bin/sh", "-c", "echo $HOME")


def test_a_command_works_in_its_own_directory_unless_it_names_one() -> None:
    assert launch(assigned({"command": "x"}), HERE).cwd == "/slots/0000/work"
    assert launch(assigned({"command": "x", "cwd": "/srv"}), HERE).cwd == "/srv"


def test_a_process_is_told_who_it_is_and_where_its_files_go() -> None:
    env = launch(assigned({"command": "x", "env": {"MODE": "fast"}}), HERE).env

    assert env == {
        "DTEST_TASK_ID": "t",
        "DTEST_ATTEMPT": "2",
        "DTEST_HARDWARE": "cpu",
        "DTEST_ARTIFACT_DIR": "/slots/0000/artifacts",
        "DTEST_CHECKPOINT_DIR": "/slots/0000/checkpoint",
        "MODE": "fast",
    }


@pytest.mark.parametrize(
    ("hardware", "devices", "expected"),
    [
        (
            "cuda",
            ("cuda:0", "cuda:3"),
            {"CUDA_VISIBLE_DEVICES": "0,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        ),
        ("rocm", ("rocm:1",), {"HIP_VISIBLE_DEVICES": "1"}),
        ("cuda", (), {}),
        ("cpu", (), {}),
        ("mps", ("mps:0",), {}),
    ],
)
def test_reserved_devices_are_the_visible_ones(
    hardware: str, devices: tuple[str, ...], expected: dict[str, str]
) -> None:
    planned = launch(assigned({"command": "x"}, hardware=hardware, devices=devices), HERE)

    shown = {name: value for name, value in planned.env.items() if not name.startswith("DTEST_")}
    assert shown == expected


def test_a_test_task_starts_the_session_with_its_paths_in_a_file(tmp_path: Path) -> None:
    config = {"paths": ["tests/é", "a.py::b[1\t2]"], "cwd": "/src", "args": ["-x", "--", "-k", "a"]}
    planned = launch(assigned(config, "test"), tmp_path)
    write_inputs(planned, tmp_path)

    argv = list(planned.argv)
    assert argv[:4] == [sys.executable, "-I", "-m", SESSION_MODULE]
    assert argv[argv.index("--python") + 1] == sys.executable
    assert argv[argv.index("--cwd") + 1] == planned.cwd == "/src"
    assert argv[argv.index("--") + 1 :] == ["-x", "--", "-k", "a"]
    paths = Path(argv[argv.index("--paths-file") + 1])
    assert paths.read_text(encoding="utf-8") == "tests/é\na.py::b[1\t2]\n"


def test_a_test_task_may_name_its_interpreter() -> None:
    config = {"paths": ["."], "cwd": "/src", "python": "/opt/py/bin/python"}
    argv = list(launch(assigned(config, "test"), HERE).argv)

    assert argv[argv.index("--python") + 1] == "/opt/py/bin/python"


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("command", {}),
        ("command", {"command": []}),
        ("command", {"command": 7}),
        ("test", {"paths": [], "cwd": "/"}),
        ("test", {"paths": ["."]}),
    ],
)
def test_a_config_that_has_not_the_form_of_its_type_is_refused(
    kind: str, config: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        launch(assigned(config, kind), HERE)


def test_a_type_that_no_agent_knows_is_named() -> None:
    with pytest.raises(ValueError, match="does not run tasks of type quantum"):
        launch(assigned({"command": "x"}, "quantum"), HERE)
