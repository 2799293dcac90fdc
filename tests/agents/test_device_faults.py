"""What runtimes print when a device is too small or broken; and what only looks like it.

The outputs are those that users of the runtimes reported, cut to what matters.
"""

import sys
from pathlib import Path
from typing import Any

import pytest

from dtest.agents.device_faults import TAIL_BYTES, last_fault, reread
from dtest.agents.outcome import Cases, Meaning
from dtest.events.reasons import Reason
from tests.kit.agent import Workbench

TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.00 MiB. GPU 0 has a total "
    "capacity of 23.65 GiB of which 11.06 MiB is free."
)
JAX = """\
Traceback (most recent call last):
  File "train.py", line 720, in <module>
jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate \
6291456 bytes.
BufferAssignment OOM Debugging.
BufferAssignment stats:
             parameter allocation:    6.00MiB
Peak buffers:
\tBuffer 1:
\t\tSize: 6.00MiB
\t\tOperator: op_name="jit(concatenate)/jit(main)/concatenate[dimension=0]"
\t\t==========================
"""
EXHAUSTED = {
    "torch": "Traceback (most recent call last):\n" + TORCH,
    "torch before 2.5": "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.70 G",
    "torch before 1.13": "RuntimeError: CUDA out of memory. Tried to allocate 1024.00 KiB (GPU 0;",
    "torch, one of several ranks": f"[rank3]: {TORCH}\n",
    "torch under torchrun": f"[rank0]: {TORCH}\nE1014 api.py:874] failed (exitcode: 1)\n"
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\ntrain.py FAILED",
    "torch on ROCm": "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 16.00 GiB.",
    "torch on Apple": "RuntimeError: MPS backend out of memory (MPS allocated: 5.50 GB, other "
    "allocations: 14.76 GB, max allowed: 20.40 GB). Tried to allocate 147.24 MB on private pool.",
    "the CUDA runtime": "RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be "
    "asynchronously reported at some other API call, so the stacktrace below might be incorrect.",
    "C++ that nobody catches": "terminate called after throwing an instance of 'c10::Error'\n"
    "  what():  CUDA out of memory. Tried to allocate 2.00 GiB",
    "JAX": JAX,
    "JAX, by device": "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Failed to "
    "allocate request for 2.99GiB (3206250496B) on device ordinal 0",
    "TensorFlow": "tensorflow.python.framework.errors_impl.ResourceExhaustedError: {{function_node "
    "__wrapped__Mul_device_/job:localhost/replica:0/task:0/device:GPU:0}} OOM when allocating "
    "tensor with shape[65536,65536] and type float on /job:localhost/replica:0/task:0/device:GPU:0 "
    "by allocator GPU_0_bfc [Op:Mul]",
    "ONNX Runtime": "onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException: "
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
    "Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:331 "
    "void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for "
    "requested buffer of size 8388608000",
    "ONNX Runtime, in two lines": "onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException: "
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv "
    "node. Name:'/fc1/Conv' Status Message: \n/onnxruntime_src/onnxruntime/core/framework/"
    "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*, bool) Failed to allocate memory for requested buffer of size 4585490524",
    "ONNX Runtime, its CUDA calls": "[ONNXRuntimeError] : 1 : FAIL : D:\\a\\cuda_call.cc:121 "
    "onnxruntime::CudaCall CUDA failure 2: out of memory ; GPU=0 ; hostname=D ; expr=cudaStream",
    "CuPy": "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,589,934,592 bytes "
    "(allocated so far: 0 bytes).",
}
BROKEN = {
    "HW Exception by GPU node-1 (Agent handle: 0x1b0fc990) reason :GPU Hang\n"
    "[host:08475] *** Process received signal ***\n[host:08475] Aborted": Reason.GPU_HANG,
    "RuntimeError: CUDA error: uncorrectable ECC error encountered\n"
    "For debugging consider passing CUDA_LAUNCH_BLOCKING=1.": Reason.DEVICE_LOST,
}
SOMETHING_ELSE = {
    "it went on, and failed of something else": f"{TORCH}\nbatch 8 instead of 16\nKeyError: 'loss'",
    "an assertion that mentions it": "AssertionError: CUDA out of memory. Tried to allocate 2 GiB",
    "a sentence that mentions it": "expected: RuntimeError: CUDA out of memory. Tried to allocate",
    "a log line that mentions it": "INFO handled: CUDA out of memory. Tried to allocate 2 GiB",
    "the machine's own memory": "MemoryError: Unable to allocate 8.00 GiB for an array",
    "another error of the device": "RuntimeError: CUDA error: device-side assert triggered",
    "too many of something else": "XlaRuntimeError: RESOURCE_EXHAUSTED: Quota exceeded",
    "nothing": "",
}


@pytest.mark.parametrize("output", EXHAUSTED.values(), ids=EXHAUSTED.keys())
def test_a_runtime_that_ran_out_of_device_memory_is_understood(output: str) -> None:
    found = last_fault(f"loading\n{output}\n")

    assert found is not None
    assert found[0] is Reason.OOM_DEVICE
    assert found[1] in output


@pytest.mark.parametrize(("output", "reason"), BROKEN.items(), ids=BROKEN.values())
def test_a_runtime_that_lost_its_device_is_understood(output: str, reason: Reason) -> None:
    found = last_fault(output)

    assert found is not None
    assert found[0] is reason


@pytest.mark.parametrize("output", SOMETHING_ELSE.values(), ids=SOMETHING_ELSE.keys())
def test_what_only_looks_like_it_is_not_taken_for_it(output: str) -> None:
    assert last_fault(output) is None


ASSERTION: Meaning = ("failed", Reason.ASSERTION_FAILED, "2 tests did not pass")
OOM, HANG = Reason.OOM_DEVICE, Reason.GPU_HANG


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        (Cases(failed=2, device_faults={OOM: 2}), OOM),
        (Cases(failed=2, device_faults={OOM: 1, HANG: 1}), HANG),
        (Cases(failed=2, device_faults={OOM: 1}), Reason.ASSERTION_FAILED),
        (Cases(failed=2), Reason.ASSERTION_FAILED),
        (Cases(failed=2, collection_errors=1, device_faults={OOM: 2}), Reason.ASSERTION_FAILED),
        (Cases(), Reason.ASSERTION_FAILED),
    ],
)
def test_tests_are_a_verdict_unless_each_failed_because_of_the_device(
    tmp_path: Path, cases: Cases, reason: Reason
) -> None:
    (tmp_path / "output.log").write_text(TORCH)

    outcome, found, _ = reread(ASSERTION, cases, tmp_path / "output.log")

    assert (outcome, found) == ("failed" if reason is ASSERTION[1] else "faulted", reason)


@pytest.mark.parametrize(
    "ended_as",
    [
        ("passed", None, ""),
        ("faulted", Reason.RUN_TIMEOUT, ""),
        ("faulted", Reason.COLLECTION_ERROR, ""),
        ("cancelled", Reason.CANCELLED_USER, ""),
    ],
)
def test_what_did_not_fail_by_itself_stays_what_it_is(tmp_path: Path, ended_as: Meaning) -> None:
    (tmp_path / "output.log").write_text(TORCH)

    assert reread(ended_as, Cases(), tmp_path / "output.log") == ended_as


def test_an_attempt_without_output_stays_what_it_is(tmp_path: Path) -> None:
    ended_as: Meaning = ("failed", Reason.EXIT_NONZERO, "exit status 1")

    assert reread(ended_as, Cases(), tmp_path / "gone") == ended_as


def test_only_the_tail_of_much_output_counts(tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    ended_as: Meaning = ("failed", Reason.EXIT_NONZERO, "exit status 1")
    output.write_text(f"{TORCH}\n" + "x\n" * TAIL_BYTES)
    assert reread(ended_as, Cases(), output) == ended_as

    output.write_text("x\n" * TAIL_BYTES + TORCH)
    assert reread(ended_as, Cases(), output)[1] is Reason.OOM_DEVICE


# -- with real processes ------------------------------------------------------------------------

PRINT = "echo '{}' >&2; {}"


@pytest.mark.parametrize(
    ("end", "more", "outcome", "reason"),
    [
        ("exit 1", {"devices": ("cuda:0",)}, "faulted", Reason.OOM_DEVICE),
        ("kill -ABRT $$", {"devices": ("cuda:0",)}, "faulted", Reason.OOM_DEVICE),
        ("exit 0", {"devices": ("cuda:0",)}, "passed", None),
        ("exit 1", {}, "failed", Reason.EXIT_NONZERO),
    ],
)
async def test_an_attempt_ran_out_of_device_memory_if_it_had_a_device_and_failed(
    bench: Workbench, end: str, more: dict[str, Any], outcome: str, reason: Reason | None
) -> None:
    async with bench.agent():
        finished = await bench.run(PRINT.format(TORCH, end), **more)

    assert (finished.outcome, finished.reason) == (outcome, reason)
    assert (TORCH in finished.detail) == (reason is Reason.OOM_DEVICE)


SUITE = f"""
class OutOfMemoryError(RuntimeError):
    __module__ = "torch"

def test_large(): raise OutOfMemoryError({TORCH.partition(": ")[2]!r})
def test_small(): {{}}
"""


@pytest.mark.parametrize(
    ("other", "outcome", "reason"),
    [
        ("pass", "faulted", Reason.OOM_DEVICE),
        ("assert 1 == 2", "failed", Reason.ASSERTION_FAILED),
    ],
)
async def test_a_session_of_which_another_test_failed_is_a_verdict(
    bench: Workbench, tmp_path: Path, other: str, outcome: str, reason: Reason
) -> None:
    (tmp_path / "test_it.py").write_text(SUITE.format(other))
    config = {"paths": ["test_it.py"], "cwd": str(tmp_path), "python": sys.executable}
    async with bench.agent():
        bench.start([], type="test", config=config, devices=("cuda:0",))
        finished = await bench.ended()

    assert (finished.outcome, finished.reason) == (outcome, reason)
