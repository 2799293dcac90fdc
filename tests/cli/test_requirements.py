"""``dtest requirements``: a proposal with its evidence, and files that stay as they are."""

from pathlib import Path

import pytest

from tests.cli.command import Person

GPU = "import torch\n\ndef test_kernel():\n    torch.zeros(3, device='cuda')\n"
PROJECT = '[[tool.dtest.requirements]]\nmatch = "tests/test_known.py"\nhardware = "cuda"\n'


@pytest.fixture
def project(person: Person) -> Path:
    """A test for a GPU, one that the settings know, and files that cannot be read."""
    tests = person.cwd / "tests"
    tests.mkdir()
    (person.cwd / "pyproject.toml").write_text(PROJECT)
    (tests / "test_gpu.py").write_text(GPU)
    (tests / "test_known.py").write_text(GPU)
    (tests / "test_broken.py").write_text("def test_(:\n")
    (tests / "test_bytes.py").write_bytes(b"\xff\xfe")
    (tests / "kernels.py").write_text(GPU)
    return person.cwd


def test_a_proposal_is_shown_and_nothing_is_applied(person: Person, project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.*")}

    ended = person.here("requirements").good()

    assert "tests/test_gpu.py:4: names the device 'cuda'" in ended.out
    assert "torch.zeros(3, device='cuda')" in ended.out
    assert ended.out.endswith(
        "# a proposal for pyproject.toml; nothing was changed\n\n"
        '[[tool.dtest.requirements]]\nmatch = "tests/test_gpu.py::test_kernel"\nhardware = "cuda"\n'
    )
    assert "tests/test_broken.py: line 1: invalid syntax" in ended.err
    assert "tests/test_bytes.py: cannot be read" in ended.err
    assert "4 files read, 1 proposal" in ended.err
    assert {path: path.read_bytes() for path in project.rglob("*.*")} == before


def test_a_proposal_is_told_for_programs(person: Person, project: Path) -> None:
    ended = person.here("requirements", "--json").good()

    assert ended.json["files"] == 4
    (found,) = ended.json["proposals"]
    assert found["asks"] == {"hardware": ["cuda"]}
    assert found["mark"] == '@pytest.mark.dtest(hardware="cuda")'
    assert [(each["line"], each["why"]) for each in found["evidence"]] == [
        (4, "names the device 'cuda'")
    ]
    assert {each["file"] for each in ended.json["problems"]} == {
        "tests/test_broken.py",
        "tests/test_bytes.py",
    }


def test_a_file_that_is_named_may_have_any_name(person: Person, project: Path) -> None:
    ended = person.here("requirements", "./tests/kernels.py", "--json").good()

    assert [each["match"] for each in ended.json["proposals"]] == ["tests/kernels.py::test_kernel"]


def test_no_test_files_are_never_a_success(person: Person) -> None:
    ended = person.here("requirements")

    assert ended.code == 5
    assert "no test files" in ended.err


def test_a_path_that_is_not_there_is_refused(person: Person, project: Path) -> None:
    assert person.here("requirements", "nowhere").code == 2
