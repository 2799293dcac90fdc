"""Gives back the disk space of a part of a file that is still being written to.

Places in the file stay what they were, so whoever counts by them counts right.
"""

import ctypes
import fcntl
import os
import struct
import sys
from pathlib import Path

BLOCK_BYTES = 4096
_KEEP_SIZE_AND_PUNCH = 0x01 | 0x02
_F_PUNCHHOLE = 99
_LINUX = sys.platform.startswith("linux")


def punch(path: Path, start: int, end: int) -> bool:
    """Free what lies between two places, in whole blocks; say whether the file system can."""
    first = -(-start // BLOCK_BYTES) * BLOCK_BYTES
    length = end // BLOCK_BYTES * BLOCK_BYTES - first
    if length <= 0:
        return True
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _punch(descriptor, first, length)
    finally:
        os.close(descriptor)


def _punch(descriptor: int, start: int, length: int) -> bool:
    if _LINUX:
        offset, size = ctypes.c_int64(start), ctypes.c_int64(length)
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.fallocate(descriptor, _KEEP_SIZE_AND_PUNCH, offset, size) == 0)
    try:
        fcntl.fcntl(descriptor, _F_PUNCHHOLE, struct.pack("=IIqq", 0, 0, start, length))
    except OSError:
        return False
    return True
