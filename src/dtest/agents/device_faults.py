"""Tells from what a process printed that it ended because of its device: out of memory, or broken.

A runtime says so in words only. They count where a process failed by itself with a device
reserved: as the last error in the tail of its output, or as the error of *every* test that failed.
A program that goes on after it, or prints such words inside a sentence, is not meant; a pass never
becomes anything else.
"""

import re
from pathlib import Path

from dtest.agents.outcome import Cases, Meaning
from dtest.events.reasons import Reason
from dtest.wording import counted

TAIL_BYTES = 32 << 10
"""JAX prints up to twenty buffers behind its message."""
DETAIL_CHARS_MAX = 300

_RANK = r"(?:\[rank\d+\]:\s*)?"
_RAISED = _RANK + r"(?:(?!AssertionError)[A-Za-z_][\w.]*(?:Error|Exception|Fail)\s*:\s*)?"
"""A runtime's message stands at the start of a line, behind the name of an exception at most; what
a test asserts is not a runtime's."""
_TEXTS: dict[Reason, tuple[str, ...]] = {
    Reason.OOM_DEVICE: (
        # PyTorch on CUDA, ROCm and XPU, c10/cuda/CUDACachingAllocator.cpp; pytorch#16417,
        # TheRock#1054
        r"(?:CUDA|HIP|XPU) out of memory\. Tried to allocate ",
        # The CUDA and HIP runtimes themselves, as PyTorch and ggml print them
        r"(?:CUDA|HIP) error: out of memory",
        # PyTorch on Apple, aten/src/ATen/mps/MPSAllocator.mm; pytorch#130112
        r"MPS backend out of memory \(MPS allocated: ",
        # XLA under JAX; jax#13428, ai-models-graphcast#18; the last form is that of TPUs
        r"RESOURCE_EXHAUSTED: .{0,200}?Out of memory (?:while trying to allocate|allocating) \d",
        r"RESOURCE_EXHAUSTED: .{0,200}?Failed to allocate request for .{1,60} on device ordinal",
        r"RESOURCE_EXHAUSTED: .{0,200}?Ran out of memory in memory space hbm",
        # TensorFlow on a GPU, named by its allocator
        r"(?:\{\{.{0,300}\}\} )?OOM when allocating tensor with .{1,300} by allocator GPU_\d+_bfc",
        # ONNX Runtime: its arena (onnxruntime#9939; over two lines #22702), its CUDA calls
        # (Deep-Live-Cam#584)
        r"\S*bfc_arena\.cc:\d+ .{0,300}Failed to allocate memory for requested buffer of size \d",
        r"\[ONNXRuntimeError\] : \d+ : .{0,600} Failed to allocate memory for requested buffer of",
        r"\[ONNXRuntimeError\] : \d+ : .{0,600} (?:CUDA|HIP) failure 2: out of memory",
        # CuPy, OutOfMemoryError in its memory.pyx
        r"Out of memory allocating [\d,]+ bytes \(allocated so far: ",
    ),
    Reason.GPU_HANG: (
        # The runtime of ROCm, before it aborts; legacy-rocm-build#6137
        r"HW Exception by GPU node-\d+ \(Agent handle: 0x[0-9a-f]+\) reason ?: ?GPU Hang",
    ),
    Reason.DEVICE_LOST: (
        # CUDA's error 214; vllm#5222
        r"CUDA error: uncorrectable ECC error encountered",
    ),
}
_KNOWN = [
    (reason, re.compile(_RAISED + text)) for reason, texts in _TEXTS.items() for text in texts
]
_OTHER = re.compile(_RANK + r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b\s*(?::|$)")
"""The last line of another traceback: that is what ended the process."""
_WRAPPER = re.compile(r"[\w.]*(?:ChildFailedError|CalledProcessError|ProcessRaisedException)\b")
"""What launchers of processes raise because of the error before it."""
_EXAMINED = frozenset({Reason.EXIT_NONZERO, Reason.ASSERTION_FAILED, Reason.CRASH_SIGNAL})


def device_fault(text: str) -> Reason | None:
    """Return what an error's text says about the device, or none; looks at its start only."""
    match = next((item for item in _KNOWN if item[1].match(text)), None)
    return match[0] if match is not None else None


def last_fault(tail: str) -> tuple[Reason, str] | None:
    """Return what the last error in some output says about the device, with its line, or none."""
    for line in reversed(tail.replace("\r", "\n").splitlines()):
        stripped = line.strip()
        reason = device_fault(stripped) or _behind_what(stripped)
        if reason is not None:
            return reason, stripped[:DETAIL_CHARS_MAX]
        if _OTHER.match(stripped) and not _WRAPPER.match(stripped):
            return None
    return None


def _behind_what(line: str) -> Reason | None:
    """C++ prints ``what():`` before the message of the exception that ended it."""
    before, what, message = line.partition("what():")
    return device_fault(message.strip()) if what and not before.strip() else None


def reread(ended_as: Meaning, cases: Cases, output: Path) -> Meaning:
    """Return what an attempt that had a device reserved really ended of."""
    if ended_as[1] not in _EXAMINED:
        return ended_as
    if ended_as[1] is Reason.ASSERTION_FAILED:
        return _of_tests(ended_as, cases)
    found = last_fault(_tail(output))
    return ended_as if found is None else ("faulted", *found)


def _of_tests(ended_as: Meaning, cases: Cases) -> Meaning:
    """One test that failed of anything else is a verdict."""
    faults = cases.device_faults
    if not faults or cases.collection_errors or sum(faults.values()) != cases.failed:
        return ended_as
    reason = min(faults, key=_severity)
    return (
        "faulted",
        reason,
        f"{counted(cases.failed, 'test')} did not pass, each because of its device",
    )


def _severity(reason: Reason) -> tuple[bool, str]:
    """A broken device comes before one that is too small."""
    return reason is Reason.OOM_DEVICE, reason


def _tail(output: Path) -> str:
    try:
        with output.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""  # the attempt removed its own directory
