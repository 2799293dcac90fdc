"""What is asked of machines: words, how they are put together, and what contradicts itself."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.errors import UsageError
from dtest.events.task import ANYWHERE, Requirements
from dtest.state.matching import Refusal
from dtest.suites.requirement import (
    KEYWORDS,
    both,
    document,
    in_words,
    key_of,
    layered,
    parse_on,
    stated,
)


def asks(**said: Any) -> Requirements:
    return layered([stated(said)])


REQUIREMENTS = st.builds(
    Requirements,
    hardware=st.lists(st.sampled_from(("cpu", "cuda", "rocm")), max_size=3, unique=True).map(tuple),
    min_memory_gb=st.sampled_from((0.0, 4.0, 8.0)),
    min_cuda_compute=st.sampled_from((0.0, 7.5)),
    browser=st.sampled_from((None, "firefox", "chromium")),
    device_type=st.sampled_from((None, "server", "mobile")),
    labels=st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2),
)


def test_every_field_of_a_task_s_requirements_is_a_keyword() -> None:
    assert (
        *("hardware", "min_memory_gb", "min_device_memory_gb", "min_cuda_compute"),
        *("browser", "device_type", "labels"),
    ) == KEYWORDS


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"hardware": "cuda"}, {"hardware": ("cuda",)}),
        ({"hardware": ["cuda", "rocm"]}, {"hardware": ("cuda", "rocm")}),
        ({"hardware": ()}, {"hardware": ()}),
        ({"min_memory_gb": 8}, {"min_memory_gb": 8.0}),
        (
            {"labels": {"rack": "3"}, "browser": "firefox"},
            {"labels": {"rack": "3"}, "browser": "firefox"},
        ),
    ],
)
def test_what_was_said_is_kept_and_nothing_else(
    said: dict[str, Any], found: dict[str, Any]
) -> None:
    assert stated(said) == found


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({}, "asks for nothing; known: hardware, min_memory_gb"),
        ({"hardwear": "cuda"}, "unknown keyword 'hardwear'; known: hardware, min_memory_gb"),
        ({"hardware": "cuda | rocm"}, "hardware.0: "),
        ({"hardware": 3}, "hardware: "),
        ({"hardware": [["<object>"]]}, "hardware.0: "),
        ({"min_memory_gb": "8"}, "min_memory_gb: "),
        ({"min_memory_gb": True}, "min_memory_gb: "),
        ({"min_memory_gb": -1}, "min_memory_gb: "),
        ({"min_cuda_compute": [["nan"]]}, "min_cuda_compute: "),
        ({"browser": [["<object>"]]}, "browser: "),
        ({"labels": [["<object>"]]}, "labels: "),
        ({"labels": {"rack": 3}}, "labels.rack: "),
    ],
)
def test_what_makes_no_sense_is_named_with_what_is_known(
    said: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match="known") as refused:
        stated(said)
    assert str(refused.value).startswith(problem)


def test_the_last_layer_counts_keyword_by_keyword() -> None:
    found = layered([{"hardware": ("cuda",), "min_memory_gb": 8.0}, {"hardware": ("rocm",)}])

    assert found == Requirements(hardware=("rocm",), min_memory_gb=8.0)
    assert layered([]) == ANYWHERE


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"hardware": "cuda"}, {"min_memory_gb": 8}, {"hardware": "cuda", "min_memory_gb": 8}),
        ({"hardware": "cuda"}, {"hardware": ["rocm", "cuda"]}, {"hardware": "cuda"}),
        ({"min_memory_gb": 4}, {"min_memory_gb": 8}, {"min_memory_gb": 8}),
        ({"browser": "firefox"}, {"browser": "firefox"}, {"browser": "firefox"}),
        ({"browser": "firefox"}, {"hardware": "cpu"}, {"browser": "firefox"}),
        ({"labels": {"a": "1"}}, {"labels": {"b": "2"}}, {"labels": {"a": "1", "b": "2"}}),
        ({"hardware": "rocm"}, {"hardware": "cuda"}, "asks for cuda, not rocm"),
        ({"hardware": "rocm"}, {"hardware": "cpu"}, "asks for cpu, not rocm"),
        ({"browser": "firefox"}, {"browser": "edge"}, "asks for the browser edge, not firefox"),
        (
            {"device_type": "server"},
            {"device_type": "mobile"},
            "asks for the device_type mobile, not server",
        ),
        ({"labels": {"a": "1"}}, {"labels": {"a": "2"}}, "asks for the label a=2, not 1"),
    ],
)
def test_two_wishes_are_one_or_contradict_each_other(
    one: dict[str, Any], other: dict[str, Any], together: dict[str, Any] | str
) -> None:
    found = both(asks(**one), asks(**other))

    assert found == (Refusal(together) if isinstance(together, str) else asks(**together))


@given(REQUIREMENTS, REQUIREMENTS)
def test_whoever_asks_for_both_asks_for_each(one: Requirements, other: Requirements) -> None:
    found = both(one, other)

    if isinstance(found, Requirements):
        for each in (one, other):
            again = both(found, each)
            assert isinstance(again, Requirements)
            assert set(again.hardware) == set(found.hardware)
            assert replace(again, hardware=()) == replace(found, hardware=())


@given(REQUIREMENTS)
def test_asking_for_nothing_adds_nothing(one: Requirements) -> None:
    assert both(one, ANYWHERE) == one


@given(REQUIREMENTS, REQUIREMENTS)
def test_keys_are_equal_where_documents_are(one: Requirements, other: Requirements) -> None:
    assert (key_of(one) == key_of(other)) == (document(one) == document(other))


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("cuda", [("cuda", {"hardware": "cuda"})]),
        (" cuda |rocm", [("cuda", {"hardware": "cuda"}), ("rocm", {"hardware": "rocm"})]),
        (
            "cuda&min_device_memory_gb = 24",
            [
                (
                    "cuda & min_device_memory_gb=24",
                    {"hardware": "cuda", "min_device_memory_gb": 24},
                )
            ],
        ),
        (
            "cpu & browser=firefox | label:room=lab & label:rack=3",
            [
                ("cpu & browser=firefox", {"hardware": "cpu", "browser": "firefox"}),
                ("label:room=lab & label:rack=3", {"labels": {"room": "lab", "rack": "3"}}),
            ],
        ),
    ],
)
def test_classes_of_hardware_are_read(text: str, classes: list[tuple[str, Any]]) -> None:
    assert [(each.name, each.requirements) for each in parse_on(text)] == [
        (name, asks(**said)) for name, said in classes
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "--on '': hardware.0"),
        ("cuda |", "--on '': hardware.0"),
        ("cuda & rocm", "--on 'cuda & rocm' states hardware twice"),
        ("cuda | rocm | cuda", "--on names 'cuda' twice"),
        ("vram=24", "--on 'vram=24': unknown keyword 'vram'; known: hardware"),
        ("min_memory_gb=much", "--on 'min_memory_gb=much': min_memory_gb"),
        ("cuda>=7.5", "--on 'cuda>=7.5': unknown keyword 'cuda>'"),
        ("label:=3", "--on 'label:=3': labels"),
        (f"label:a={'x' * 199}", "has more than 200 characters"),
        (" | ".join(f"k{n}" for n in range(33)), "--on names 33 classes"),
    ],
)
def test_classes_that_make_no_sense_are_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_on(text)
    assert problem in refused.value.message


def test_requirements_are_said_as_on_the_command_line() -> None:
    text = "cuda & min_memory_gb=8 & browser=firefox & label:rack=3"

    assert in_words(parse_on(text)[0].requirements) == text
