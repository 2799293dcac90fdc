"""What source code shows of machines: each sign with its line, and no code is run."""

import tomllib
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.suites.evidence import analysed
from dtest.suites.proposal import Proposals, proposals
from dtest.suites.rules import read_rules

CUDA, GPU = ("cuda",), ("cuda", "rocm")


def shown(source: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Test, line and what is asked for, of each finding."""
    found = analysed(dedent(source), "tests/test_a.py")
    assert found.problem == ""
    return [(each.test, each.line, dict(each.asks)) for each in found.findings]


def proposed(source: str, rules: list[dict[str, Any]] | None = None) -> Proposals:
    analysis = analysed(dedent(source), "tests/test_a.py")
    return proposals([analysis], read_rules(rules or [], source="pyproject.toml"))


@pytest.mark.parametrize(
    ("code", "asks"),
    [
        ("import torch.cuda", {"hardware": CUDA}),
        ("from torch import cuda", {"hardware": CUDA}),
        ("from torch.cuda.amp import autocast", {"hardware": CUDA}),
        ("import cupy as cp", {"hardware": CUDA}),
        ("import triton.language as tl", {"hardware": GPU}),
        ("pytest.importorskip('pycuda.driver')", {"hardware": CUDA}),
        ("torch.cuda.synchronize()", {"hardware": CUDA}),
        ("model.cuda()", {"hardware": CUDA}),
        ("torch.zeros(3, device='cuda')", {"hardware": CUDA}),
        ("torch.zeros(3, device='cuda:1')", {"hardware": CUDA}),
        ("model.to('mps')", {"hardware": ("mps",)}),
        ("torch.device('cuda')", {"hardware": CUDA}),
        ("jax.devices('gpu')", {"hardware": GPU}),
        ("tf.device('/GPU:0')", {"hardware": GPU}),
        ("tf.config.list_physical_devices('GPU')", {"hardware": GPU}),
        ("session(providers=['ROCMExecutionProvider'])", {"hardware": ("rocm",)}),
        ("from selenium import webdriver", {"browser": "chromium"}),
        ("webdriver.Firefox()", {"browser": "firefox"}),
        ("p.chromium.launch()", {"browser": "chromium"}),
        ("from testcontainers.postgres import PostgresContainer", {"labels": {"docker": "yes"}}),
        ("import docker", {"labels": {"docker": "yes"}}),
        ("bytearray(8 * 1024**3)", {"min_memory_gb": 8.6}),
        ("bytearray(4 << 30)", {"min_memory_gb": 4.3}),
        ("allocate(16 * GiB)", {"min_memory_gb": 17.2}),
    ],
)
def test_code_that_tells_of_hardware_is_found(code: str, asks: dict[str, Any]) -> None:
    inside = f"def test_it():\n    {code}\n"

    assert shown(inside) == [("test_it", 2, asks)]
    assert shown(f"{code}\n") == [("", 1, asks)]


@pytest.mark.parametrize(
    "code",
    [
        "import torch",
        "print('cuda')",
        "x.to('cpu')",
        "cuda('x')",
        "import dockerfile",
        "bytearray(1024**3)",
        "x = 8 * 1024**2",
        "value = 2**32 - 1",
        "from . import cuda",
        "p.launch()",
        "'CUDAExecutionProviders'",
    ],
)
def test_code_that_tells_of_none_is_passed_over(code: str) -> None:
    assert shown(f"def test_it():\n    {code}\n") == []


@pytest.mark.parametrize(
    ("mark", "asks"),
    [
        ("pytest.mark.gpu", {"hardware": GPU}),
        ("pytest.mark.cuda()", {"hardware": CUDA}),
        ("pytest.mark.requires_cuda", {"hardware": CUDA}),
        ("pytest.mark.needs_two_rocm_cards", {"hardware": ("rocm",)}),
        ("requires_gpu", {"hardware": GPU}),
        ("testing.require_torch_gpu", {"hardware": GPU}),
        ("pytest.mark.requires_license", {}),
        ("pytest.mark.slow", {}),
        ("pytest.mark.skipif(not torch.cuda.is_available(), reason='x')", {"hardware": CUDA}),
        ("pytest.mark.skipif(not HAS_GPU, reason='x')", {"hardware": GPU}),
        (
            "pytest.mark.skipif(shutil.which('docker') is None, reason='')",
            {"labels": {"docker": "yes"}},
        ),
        ("pytest.mark.skipif(psutil.virtual_memory().total < 9, reason='x')", {}),
        ("pytest.mark.parametrize('d', ['cpu', 'cuda'])", {}),
        ("unittest.skipUnless(torch.cuda.is_available(), 'x')", {"hardware": CUDA}),
    ],
)
def test_marks_count_on_tests_classes_and_files(mark: str, asks: dict[str, Any]) -> None:
    assert shown(f"@{mark}\ndef test_it(): pass\n") == [("test_it", 1, asks)]
    assert shown(f"@{mark}\nclass TestIt:\n    def test_it(self): pass\n") == [("TestIt", 1, asks)]
    assert shown(f"pytestmark = [pytest.mark.x, {mark}]\n") == [("", 1, asks)]


@pytest.mark.parametrize(
    "mark",
    [
        "pytest.mark.skipif(sys.platform == 'win32', reason='x')",
        "pytest.mark.parametrize('d', ['cpu', 'x'])",
        "pytest.mark.asyncio",
        "functools.cache",
    ],
)
def test_marks_that_tell_of_no_hardware_are_passed_over(mark: str) -> None:
    assert shown(f"@{mark}\ndef test_it(): pass\n") == []


def test_a_mark_under_a_name_counts_where_it_is_put() -> None:
    source = """\
        needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="x")
        @needs_gpu
        def test_a(): pass
        def test_b(): pass
    """

    assert shown(source) == [("test_a", 2, {"hardware": CUDA})]


def test_what_fixtures_and_functions_show_counts_for_the_tests_that_use_them() -> None:
    source = """\
        def build(): return Model().cuda()
        @pytest.fixture
        def model(): return build()
        @pytest.fixture
        def page(): return webdriver.Firefox()
        @pytest.fixture
        def unused(): import docker
        def test_a(model): pass
        @pytest.mark.usefixtures("page")
        def test_b(): pass
        def test_c(): pass
    """

    assert shown(source) == [
        ("test_a", 1, {"hardware": CUDA}),
        ("test_b", 5, {"browser": "firefox"}),
        ("", 7, {}),
    ]


def test_a_fixture_for_all_counts_for_the_file_and_set_up_for_its_class() -> None:
    source = """\
        @pytest.fixture(autouse=True)
        def ready(): torch.cuda.init()
        class TestIt:
            def setup_method(self): self.page = webdriver.Edge()
            def test_a(self): pass
    """

    assert shown(source) == [("", 2, {"hardware": CUDA}), ("TestIt", 4, {"browser": "edge"})]


def test_a_test_that_skips_itself_says_what_it_needs() -> None:
    source = """\
        def test_a():
            if not torch.cuda.is_available():
                pytest.skip("no GPU")
    """

    assert shown(source) == [("test_a", 2, {"hardware": CUDA})]


@pytest.mark.parametrize(
    "code",
    [
        "device = 'x' if not torch.cuda.is_available() else torch.device('cuda')",
        "x.to(torch.device('cuda') if torch.cuda.is_available() else 'cpu')",
    ],
)
def test_what_is_used_only_if_it_is_there_is_to_be_looked_at(code: str) -> None:
    assert [asks for _, _, asks in shown(f"def test_it():\n    {code}\n")] == [{}]


@pytest.mark.parametrize("source", ["def test_(:", "\0", "x = (" * 500, "if x:\npass"])
def test_what_is_no_python_is_named(source: str) -> None:
    found = analysed(source, "test_odd.py")

    assert found.problem
    assert proposals([found]).problems == (("test_odd.py", found.problem),)


@given(st.text(max_size=200))
def test_no_text_is_too_odd(source: str) -> None:
    analysed(source, "test_odd.py")


MIXED = """
    import torch, pytest

    def test_a(): torch.zeros(3, device="cuda")

    class TestWeb:
        def test_b(self): webdriver.Firefox()

    @pytest.mark.gpu
    def test_c(): pass

    @pytest.mark.dtest(hardware="cuda")
    def test_said(): torch.cuda.init()
"""


def test_a_proposal_is_ready_to_be_copied() -> None:
    found = proposed(MIXED)

    assert [each.rule for each in found.proposals] == [
        (
            '[[tool.dtest.requirements]]\nmatch = "tests/test_a.py::TestWeb::test_b"\n'
            'browser = "firefox"'
        ),
        '[[tool.dtest.requirements]]\nmatch = "tests/test_a.py::test_a"\nhardware = "cuda"',
        '[[tool.dtest.requirements]]\nmarker = "gpu"\nhardware = ["cuda", "rocm"]',
    ]
    assert [each.mark for each in found.proposals] == [
        '@pytest.mark.dtest(browser="firefox")',
        '@pytest.mark.dtest(hardware="cuda")',
        '@pytest.mark.dtest(hardware=["cuda", "rocm"])',
    ]
    assert found.proposals[1].evidence[0].place == "tests/test_a.py:4"
    assert 'torch.zeros(3, device="cuda")' in found.proposals[1].evidence[0].finding.snippet


def test_what_rules_say_already_is_not_proposed() -> None:
    rules = [
        {"match": "tests/test_a.py::test_a", "hardware": "cuda"},
        {"match": "tests", "browser": "firefox"},
        {"marker": "gpu", "hardware": "cuda"},
    ]

    assert proposed(MIXED, rules).proposals == ()


@pytest.mark.parametrize(
    ("source", "asks"),
    [
        ("import triton\ntorch.cuda.init()\n", {"hardware": CUDA}),
        ("torch.cuda.init()\nx.to('mps')\n", {"hardware": ("cuda", "mps")}),
        (
            "import docker\nx = 2 * GiB\ny = 4 * GiB\n",
            {"min_memory_gb": 4.3, "labels": {"docker": "yes"}},
        ),
        ("from selenium import webdriver\nwebdriver.Firefox()\n", {"browser": "firefox"}),
        ("torch.cuda.init()\ndef test_a(): x.cuda()\n", {"hardware": CUDA}),
    ],
)
def test_findings_are_put_together(source: str, asks: dict[str, Any]) -> None:
    (found,) = proposed(source).proposals

    assert found.asks == asks


def test_every_proposal_is_a_rule_that_can_be_read() -> None:
    found = proposed(MIXED + "\n    import docker, triton\n    x = 9 * GiB\n")
    text = "\n".join(each.rule for each in found.proposals)
    entries = tomllib.loads(text)["tool"]["dtest"]["requirements"]

    rules = read_rules(entries, source="pyproject.toml")

    assert [dict(rule.asked) for rule in rules] == [dict(each.asks) for each in found.proposals]
    assert not proposed(MIXED + "\n    import docker, triton\n    x = 9 * GiB\n", entries).proposals
