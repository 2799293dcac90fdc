"""ROCm devices, by what several releases of amd-smi print."""

import pytest

from dtest.agents.probe import amd
from dtest.agents.probe.found import Found
from dtest.agents.probe.machine import Answer, Ended, TimedOut
from dtest.events.worker import Device
from tests.agents.probe.recorded import Recorded, fixture


def machine(static: Answer, **others: Answer) -> Recorded:
    answers = {f"amd-smi {name}": answer for name, answer in others.items()}
    return Recorded(commands={"amd-smi static --json": static, **answers})


def recorded(name: str) -> Ended:
    return Ended(0, fixture(name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "amd_smi_static_rocm60.json",
            [Device("rocm", 0, "0x740f", 68.703, driver="6.3.6")],
        ),
        (
            "amd_smi_static_rocm63.json",
            [
                Device("rocm", index, "AMD Instinct MI300X", 205.823, driver="6.10.5")
                for index in (0, 1)
            ],
        ),
    ],
)
def test_each_release_has_its_shape(name: str, expected: list[Device]) -> None:
    found = amd.detect(machine(recorded(name)))

    assert list(found.devices) == expected
    assert found.problems == ()


def test_warnings_may_stand_before_the_json() -> None:
    found = amd.detect(machine(recorded("amd_smi_static_rocm70.json")))

    assert [(device.name, device.memory_gb) for device in found.devices] == [
        ("AMD Radeon RX 7800 XT", 17.163)
    ]
    assert found.devices[0].driver.startswith("Linuxversion6.14.0")
    assert len(found.devices[0].driver) == 100


def test_metric_tells_the_memory_that_static_does_not() -> None:
    static = recorded("amd_smi_static_apu.json")

    known = amd.detect(machine(static, metric=recorded("amd_smi_metric_apu.json")))
    unknown = amd.detect(machine(static))

    assert known.devices == (Device("rocm", 0, "0x1900", 4.295),)
    assert known.problems == ()
    assert unknown.devices == (Device("rocm", 0, "0x1900", None),)
    assert unknown.problems == ("rocm:0 (0x1900) does not tell its memory: declare it",)


def test_devices_are_numbered_as_hip_numbers_them() -> None:
    static = (
        fixture("amd_smi_static_rocm63.json")
        .replace("MI300X", "first", 1)
        .replace("MI300X", "second", 1)
    )

    found = amd.detect(machine(Ended(0, static), list=recorded("amd_smi_list_enumeration.json")))

    assert [(device.index, device.name) for device in found.devices] == [
        (0, "AMD Instinct second"),
        (1, "AMD Instinct first"),
    ]


@pytest.mark.parametrize("listed", ['[{"gpu": 0, "hip_id": 0}]', '[{"gpu": 1}]', "no JSON", "[]"])
def test_an_enumeration_with_gaps_changes_nothing(listed: str) -> None:
    found = amd.detect(machine(recorded("amd_smi_static_rocm63.json"), list=Ended(0, listed)))

    assert [device.index for device in found.devices] == [0, 1]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Ended(1, "", fixture("amd_smi_no_driver.txt")), "driver not initialized"),
        (Ended(255, '{"error": "AMDSMI_STATUS_NOT_INIT", "code": 32}\n'), "NOT_INIT"),
        (Ended(0, '{"gpu_data": []}\n'), "gpu_data"),
        (Ended(0, ""), "said: nothing"),
        (TimedOut(10.0), "no answer in 10 s"),
        (None, "cannot be started"),
    ],
)
def test_a_tool_that_fails_is_a_problem_in_its_own_words(answer: Answer, expected: str) -> None:
    found = amd.detect(machine(answer))

    assert found.devices == ()
    assert len(found.problems) == 1
    assert expected in found.problems[0]


def test_json_counts_whatever_the_exit_code() -> None:
    found = amd.detect(machine(Ended(1, fixture("amd_smi_static_rocm60.json"))))

    assert len(found.devices) == 1


def test_a_gpu_that_hip_may_not_open_is_a_problem() -> None:
    kfd = frozenset({"/dev/kfd"})
    found = amd.detect(
        Recorded(
            commands={"amd-smi static": recorded("amd_smi_static_rocm60.json")},
            nodes=kfd,
            refused=kfd,
        )
    )

    assert found.devices == ()
    assert "no access to /dev/kfd" in found.problems[0]


def test_a_gpu_without_the_tool_is_a_note_only() -> None:
    seen = Recorded(
        files={
            "/sys/class/drm/renderD128/device/vendor": "0x1002\n",
            "/sys/class/drm/renderD129/device/vendor": "0x8086\n",
        }
    )

    found = amd.detect(seen)

    assert found.devices == ()
    assert found.problems == (
        "1 AMD GPU(s) in /sys/class/drm, but no amd-smi: not offered for rocm",
    )


def test_no_tool_and_no_gpu_is_nothing() -> None:
    assert amd.detect(Recorded()) == Found()
