"""What configuration says goes before what was detected."""

from dataclasses import fields

import pytest
from pydantic import TypeAdapter

from dtest.agents.probe import declared
from dtest.errors import UsageError
from dtest.events.worker import Browser, Capability, Device

DETECTED = Capability(
    slots=8,
    cpus=8.0,
    memory_gb=32.0,
    devices=(Device("cuda", 0, "NVIDIA T4", 15.8, 7.5), Device("openvino", 0, "Intel GPU")),
    browsers=(Browser("chromium", "129.0"), Browser("firefox", "131.0")),
    labels={"rack": "3"},
    problems=("something",),
)


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ({"slots": 2}, {"slots": 2}),
        ({"cpus": 6, "slots": 1}, {"cpus": 6.0, "slots": 1}),
        ({"memory_gb": 16}, {"memory_gb": 16.0}),
        ({"device_type": "mobile"}, {"device_type": "mobile"}),
        ({"labels": {"room": "b"}}, {"labels": {"rack": "3", "room": "b"}}),
        ({"labels": {"rack": "4"}}, {"labels": {"rack": "4"}}),
        ({"task_types": ["command"]}, {"task_types": ("command",)}),
        (
            {"browsers": [{"name": "firefox", "path": "/opt/firefox/firefox"}]},
            {
                "browsers": (
                    Browser("chromium", "129.0"),
                    Browser("firefox", "", "/opt/firefox/firefox", declared=True),
                )
            },
        ),
    ],
)
def test_a_stated_field_is_changed_and_named(
    overrides: dict[str, object], changed: dict[str, object]
) -> None:
    found = declared.apply(DETECTED, overrides)

    for field in fields(Capability):
        if field.name != "declared":
            expected = changed.get(field.name, getattr(DETECTED, field.name))
            assert getattr(found, field.name) == expected
    assert found.declared == tuple(overrides)


def test_slots_follow_stated_cpus_unless_stated() -> None:
    followed = declared.apply(DETECTED, {"cpus": 2.5})
    stated = declared.apply(declared.apply(DETECTED, {"slots": 6}), {"cpus": 2.5})
    small = declared.apply(DETECTED, {"cpus": 0.5})

    assert (followed.slots, stated.slots, small.slots) == (2, 6, 1)
    assert followed.declared == ("cpus",)
    assert stated.declared == ("slots", "cpus")


INTEL = DETECTED.devices[1]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], DETECTED.devices),
        ([{"kind": "cuda", "count": 0}], (INTEL,)),
        (
            [{"kind": "cuda", "name": "NVIDIA L4", "memory_gb": 24, "compute": 8.9}],
            (INTEL, Device("cuda", 0, "NVIDIA L4", 24.0, 8.9, declared=True)),
        ),
        (
            [{"kind": "npu", "count": 2}],
            (
                *DETECTED.devices,
                Device("npu", 0, declared=True),
                Device("npu", 1, declared=True),
            ),
        ),
        (
            [{"kind": "cuda"}, {"kind": "cuda"}, {"kind": "cuda", "index": 5, "driver": "560"}],
            (
                INTEL,
                Device("cuda", 0, declared=True),
                Device("cuda", 1, declared=True),
                Device("cuda", 5, driver="560", declared=True),
            ),
        ),
    ],
)
def test_stated_devices_replace_those_of_their_kind(
    entries: list[dict[str, object]], expected: tuple[Device, ...]
) -> None:
    assert declared.apply(DETECTED, {"devices": entries}).devices == expected


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"slotz": 1}, "slotz"),
        ({"problems": []}, "problems"),
        ({"slots": 0}, "slots"),
        ({"slots": "4"}, "slots"),
        ({"slots": True}, "slots"),
        ({"cpus": 0}, "cpus"),
        ({"cpus": float("nan")}, "cpus"),
        ({"memory_gb": -1}, "memory_gb"),
        ({"memory_gb": None}, "memory_gb"),
        ({"device_type": "toaster"}, "device_type"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": ["a"]}, "labels"),
        ({"devices": {"kind": "cuda"}}, "devices"),
        ({"devices": ["cuda"]}, "devices.0"),
        ({"devices": [{}]}, "devices[0]"),
        ({"devices": [{"kind": "cuda", "memory": 3}]}, "devices[0].memory"),
        ({"devices": [{"kind": "cuda", "declared": True}]}, "devices[0].declared"),
        ({"devices": [{"kind": "cuda", "memory_gb": "24"}]}, "devices[0].memory_gb"),
        ({"devices": [{"kind": "cuda", "count": -1}]}, "devices[0].count"),
        ({"devices": [{"kind": "cuda", "count": 1, "index": 1}]}, "devices[0]"),
        ({"devices": [{"kind": "cuda"}, {"kind": "cuda", "index": 0}]}, "devices"),
        ({"devices": [{"kind": "cuda", "count": 64}, {"kind": "npu"}]}, "devices"),
        ({"browsers": [{"name": "net scape"}]}, "browsers[0].name"),
        ({"browsers": [{"name": "edge", "engine": "blink"}]}, "browsers[0].engine"),
        ({"task_types": "command"}, "task_types"),
        ({"task_types": ["a.b"]}, "task_types.0"),
    ],
)
def test_nonsense_is_refused_by_its_name(overrides: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError) as refused:
        declared.apply(DETECTED, overrides)

    assert named in refused.value.message
    assert "known" in refused.value.message


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"known: .*slots.*task_types"):
        declared.apply(DETECTED, {"slot": 1})


@pytest.mark.parametrize("kind", declared.SIMULATED_KINDS)
def test_a_simulated_worker_is_all_declared(kind: str) -> None:
    capability = declared.simulated(kind, 2)

    assert capability.slots == 4
    assert capability.memory_gb == 64.0
    assert capability.labels == {"simulated": "true"}
    assert {*capability.declared, "declared", "problems"} == {
        field.name for field in fields(Capability)
    }
    assert [(device.kind, device.index, device.declared) for device in capability.devices] == (
        [] if kind == "cpu" else [(kind, 2, True)]
    )
    assert all("simulated" in device.name for device in capability.devices)
    form = TypeAdapter(Capability)
    assert form.validate_json(form.dump_json(capability)) == capability


def test_simulated_cuda_can_be_asked_for() -> None:
    (device,) = declared.simulated("cuda", 0).devices

    assert (device.name, device.memory_gb, device.compute) == ("simulated CUDA device", 24.0, 8.6)


def test_an_unknown_kind_of_simulated_worker_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'abacus'.*known: cpu, cuda"):
        declared.simulated("abacus", 0)
