"""Parts of files on their way: each compressed if that pays, many of them in one body.

Pure. What comes in is not trusted: bounds first, then the digest.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator

from dtest.errors import InvalidDocument
from dtest.workspaces.manifest import CHUNK_BYTES

PACK_BYTES_MAX = 8 << 20
"""Of one body."""
PACK_PARTS_MAX = 1_024
"""Who unpacks it knows by that how much it can be."""
_PLAIN = b"r"
_DEFLATED = b"z"
_LEVEL = 1
"""Half the time of the usual level, for a tenth more bytes."""
_PAYS_BELOW = 0.9
_HEAD = struct.Struct(">32sI")


def encode(raw: bytes) -> bytes:
    """Return bytes as they are sent and stored."""
    deflated = zlib.compress(raw, _LEVEL)
    if len(deflated) < len(raw) * _PAYS_BELOW:
        return _DEFLATED + deflated
    return _PLAIN + raw


def decode(encoded: bytes, *, bytes_max: int = CHUNK_BYTES) -> bytes:
    """Return what was encoded. Raises InvalidDocument for what is damaged or too much."""
    kind, body = encoded[:1], encoded[1:]
    if kind == _PLAIN:
        raw = body
    elif kind == _DEFLATED:
        raw = _inflated(body, bytes_max)
    else:
        message = f"a part that begins with {kind!r} is not understood"
        raise InvalidDocument(message)
    if len(raw) > bytes_max:
        message = f"a part holds more than {bytes_max} bytes"
        raise InvalidDocument(message)
    return raw


def _inflated(body: bytes, bytes_max: int) -> bytes:
    inflating = zlib.decompressobj()
    try:
        raw = inflating.decompress(body, bytes_max + 1)
    except zlib.error as error:
        message = f"a part cannot be read: {error}"
        raise InvalidDocument(message) from error
    if len(raw) <= bytes_max and (not inflating.eof or inflating.unused_data):
        message = "a part ends too early, or too late"
        raise InvalidDocument(message)
    return raw


def verified(digest: str, encoded: bytes) -> bytes:
    """Return the content of a part that has this digest. Raises InvalidDocument."""
    raw = decode(encoded)
    found = hashlib.sha256(raw).hexdigest()
    if found != digest:
        message = f"the part {digest} has the content of {found}"
        raise InvalidDocument(message)
    return raw


def packs(parts: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Put encoded parts into bodies of at most ``PACK_BYTES_MAX``."""
    body = bytearray()
    count = 0
    for digest, encoded in parts:
        full = len(body) + _HEAD.size + len(encoded) > PACK_BYTES_MAX
        if body and (full or count == PACK_PARTS_MAX):
            yield bytes(body)
            body.clear()
            count = 0
        body += _HEAD.pack(bytes.fromhex(digest), len(encoded)) + encoded
        count += 1
    if body:
        yield bytes(body)


def unpack(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the encoded parts of a body, none checked. Raises InvalidDocument."""
    if len(body) > PACK_BYTES_MAX:
        message = f"a pack holds {len(body)} bytes; at most {PACK_BYTES_MAX} are taken"
        raise InvalidDocument(message, hint="send it in parts")
    place = count = 0
    while place < len(body):
        if place + _HEAD.size > len(body):
            message = "a pack ends inside of a part"
            raise InvalidDocument(message)
        digest, size = _HEAD.unpack_from(body, place)
        place += _HEAD.size
        count += 1
        if place + size > len(body) or count > PACK_PARTS_MAX:
            message = f"a pack ends inside of a part, or holds more than {PACK_PARTS_MAX}"
            raise InvalidDocument(message)
        yield digest.hex(), body[place : place + size]
        place += size
