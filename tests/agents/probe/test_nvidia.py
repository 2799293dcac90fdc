"""CUDA devices, by NVML and by nvidia-smi."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dtest.agents.probe import nvidia
from dtest.agents.probe.found import Found
from dtest.agents.probe.machine import Answer, Ended, TimedOut
from dtest.events.worker import Device
from tests.agents.probe.recorded import Recorded, fixture

LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED, NOT_SUPPORTED, MISMATCH = 12, 9, 3, 18
CALLS = (
    *("nvmlInit", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount"),
    *("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo"),
    *("nvmlDeviceGetCudaComputeCapability", "nvmlShutdown"),
)


class FakeNVMLError(Exception):
    def __init__(self, value: int, text: str) -> None:
        super().__init__(text)
        self.value = value


def fail(value: int, text: str) -> Callable[..., Any]:
    def call(*_: object) -> Any:
        raise FakeNVMLError(value, text)

    return call


def nvml(**changes: Callable[..., Any]) -> ModuleType:
    """Two RTX 4090, as pynvml tells of them."""
    module = ModuleType("pynvml")
    attributes: dict[str, Any] = {
        "NVMLError": FakeNVMLError,
        "NVML_ERROR_LIBRARY_NOT_FOUND": LIBRARY_NOT_FOUND,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "560.35.03",
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda _: "NVIDIA GeForce RTX 4090",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=25_757_220_864),
        "nvmlDeviceGetCudaComputeCapability": lambda _: (8, 9),
        **changes,
    }
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def test_nvml_tells_all_of_each_device() -> None:
    found = nvidia.detect(Recorded(nvml=nvml()))

    assert found.problems == ()
    assert found.devices == tuple(
        Device("cuda", index, "NVIDIA GeForce RTX 4090", 25.757, 8.9, "560.35.03")
        for index in (0, 1)
    )


def test_a_name_in_bytes_is_text() -> None:
    found = nvidia.detect(Recorded(nvml=nvml(nvmlDeviceGetName=lambda _: b"Tesla T4")))

    assert found.devices[0].name == "Tesla T4"


def test_no_library_and_no_tool_is_no_device_and_no_problem() -> None:
    absent = nvml(nvmlInit=fail(LIBRARY_NOT_FOUND, "NVML Shared Library Not Found"))

    assert nvidia.detect(Recorded(nvml=absent)) == Found()
    assert nvidia.detect(Recorded()) == Found()


@pytest.mark.parametrize(
    ("value", "text"),
    [(DRIVER_NOT_LOADED, "Driver Not Loaded"), (MISMATCH, "RM has detected an NVML/RM mismatch")],
)
def test_a_library_that_does_not_answer_is_a_problem(value: int, text: str) -> None:
    found = nvidia.detect(Recorded(nvml=nvml(nvmlInit=fail(value, text))))

    assert found.devices == ()
    assert found.problems == (f"NVML is installed but does not answer: {text}",)


def test_a_lost_device_is_a_problem_and_the_others_stay() -> None:
    def handle(index: int) -> int:
        if index == 0:
            raise FakeNVMLError(15, "GPU is lost")
        return index

    found = nvidia.detect(Recorded(nvml=nvml(nvmlDeviceGetHandleByIndex=handle)))

    assert [device.device_id for device in found.devices] == ["cuda:1"]
    assert found.problems == ("cuda:0 cannot be read: GPU is lost",)


def test_memory_that_nvml_does_not_tell_is_unknown() -> None:
    shared = nvml(nvmlDeviceGetMemoryInfo=fail(NOT_SUPPORTED, "Not Supported"))

    found = nvidia.detect(Recorded(nvml=shared))

    assert [device.memory_gb for device in found.devices] == [None, None]
    assert len(found.problems) == 2
    assert "does not tell its memory" in found.problems[0]


@pytest.mark.parametrize("name", CALLS)
def test_an_error_of_any_call_is_no_exception(name: str) -> None:
    nvidia.detect(Recorded(nvml=nvml(**{name: fail(999, "Unknown Error")})))


def test_the_tool_stands_in_for_the_library() -> None:
    answer = Ended(0, fixture("nvidia_smi.csv"))

    found = nvidia.detect(Recorded(commands={"nvidia-smi --query-gpu=": answer}))

    assert found.problems == ()
    assert found.devices == tuple(
        Device("cuda", index, "NVIDIA H100 80GB HBM3", 85.521, 9.0, "550.90.07") for index in (0, 1)
    )


def test_shared_memory_is_unknown_to_the_tool() -> None:
    answer = Ended(0, fixture("nvidia_smi_shared_memory.csv"))

    found = nvidia.detect(Recorded(commands={"nvidia-smi": answer}))

    assert found.devices == (Device("cuda", 0, "NVIDIA GB10", None, 12.1, "580.95.05"),)
    assert found.problems == ("cuda:0 (NVIDIA GB10) does not tell its memory: declare it",)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Ended(18, fixture("nvidia_smi_mismatch.txt")), "Driver/library version mismatch"),
        (Ended(9, fixture("nvidia_smi_no_driver.txt")), "couldn't communicate"),
        (Ended(6, "No devices were found\n"), "No devices were found"),
        (Ended(2, 'Field "compute_cap" is not a valid field to query.\n'), "not a valid field"),
        (Ended(1, "", "libnvidia-ml.so: cannot open\n"), "cannot open"),
        (Ended(0, ""), "said: nothing"),
        (TimedOut(5.0), "gave no answer in 5 s"),
        (None, "cannot be started"),
    ],
)
def test_a_tool_that_fails_is_a_problem_in_its_own_words(answer: Answer, expected: str) -> None:
    found = nvidia.detect(Recorded(commands={"nvidia-smi": answer}))

    assert found.devices == ()
    assert len(found.problems) == 1
    assert expected in found.problems[0]
