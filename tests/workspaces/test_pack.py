"""Parts arrive as they were sent; what is damaged, or too much, is refused."""

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.errors import InvalidDocument
from dtest.workspaces.manifest import CHUNK_BYTES
from dtest.workspaces.pack import (
    PACK_BYTES_MAX,
    PACK_PARTS_MAX,
    decode,
    encode,
    packs,
    unpack,
    verified,
)

CONTENT = st.binary(max_size=500) | st.integers(0, 5_000).map(lambda count: b"ab" * count)


def name_of(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


@given(CONTENT)
def test_what_is_decoded_is_what_was_encoded(raw: bytes) -> None:
    assert decode(encode(raw)) == raw
    assert verified(name_of(raw), encode(raw)) == raw


@given(st.lists(CONTENT, max_size=20))
def test_packs_hold_all_parts_in_order(contents: list[bytes]) -> None:
    parts = [(name_of(raw), encode(raw)) for raw in contents]

    assert [part for body in packs(parts) for part in unpack(body)] == parts


def test_a_pack_is_bounded_by_bytes_and_by_parts() -> None:
    large = [(name_of(b"x"), b"r" + b"x" * CHUNK_BYTES)] * 40
    many = [(name_of(b"x"), encode(b"x"))] * (2 * PACK_PARTS_MAX + 1)

    assert all(len(body) <= PACK_BYTES_MAX for body in packs(large))
    assert [len(list(unpack(body))) for body in packs(many)] == [PACK_PARTS_MAX, PACK_PARTS_MAX, 1]


def test_compression_is_used_where_it_pays() -> None:
    text = b"def test_a():\n    pass\n" * 100

    assert len(encode(text)) < len(text) / 2
    assert len(encode(zlib.compress(text, 9))) == len(zlib.compress(text, 9)) + 1


@given(CONTENT, st.data())
def test_a_part_that_is_not_what_its_digest_says_is_refused(
    raw: bytes, data: st.DataObject
) -> None:
    other = data.draw(CONTENT.filter(lambda found: found != raw))

    with pytest.raises(InvalidDocument, match="has the content of"):
        verified(name_of(raw), encode(other))


@given(CONTENT, st.binary(max_size=50))
def test_any_bytes_are_a_part_or_refused(raw: bytes, junk: bytes) -> None:
    for encoded in (junk, encode(raw)[:-1], encode(raw) + junk):
        try:
            assert len(decode(encoded)) <= CHUNK_BYTES
        except InvalidDocument:
            continue


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"q",
        b"r" + b"x" * (CHUNK_BYTES + 1),
        b"z" + zlib.compress(b"x" * (1 << 28)),
        b"z" + zlib.compress(b"x")[:-1],
        b"z" + zlib.compress(b"x") + b"more",
        b"zno zlib",
    ],
)
def test_what_is_too_much_or_torn_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidDocument):
        decode(encoded)


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        bytes(35),
        bytes(32) + b"\xff\xff\xff\xff",
        bytes(32) + b"\0\0\0\2x",
        bytes(36) * (PACK_PARTS_MAX + 1),
        bytes(PACK_BYTES_MAX + 1),
    ],
)
def test_a_pack_that_is_torn_or_too_much_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidDocument):
        list(unpack(body))
