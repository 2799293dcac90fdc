"""A segment: consecutive messages of a journal as one Parquet file that says what it holds.

The only door to Parquet. Knows how to write a segment and how to say what is wrong with one; what
stands before and after it is the manifest's business.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dtest.archive.manifest import FORMAT, Entry, Label, hash_of, parse_label
from dtest.errors import Damaged, InvalidDocument
from dtest.journal.port import Stored

COMPRESSION = "zstd"
MICROSECONDS = 1_000_000
LABEL_KEY = b"dtest.archive"
SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("stored_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
_UNREADABLE = (pa.ArrowException, OSError, ValueError)


def encode(label: Label, messages: Sequence[Stored]) -> bytes:
    """Return the file. Raises InvalidDocument if an instant is no whole number of microseconds."""
    columns = [
        pa.array([stored.seq for stored in messages], pa.int64()),
        pa.array([stored.subject for stored in messages], pa.string()),
        pa.array([_microseconds(stored) for stored in messages], SCHEMA.field("stored_at").type),
        pa.array([stored.id for stored in messages], pa.string()),
        pa.array([stored.payload for stored in messages], pa.binary()),
    ]
    schema = SCHEMA.with_metadata({LABEL_KEY: label.document()})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression=COMPRESSION)
    return bytes(sink.getvalue())


def _microseconds(stored: Stored) -> int:
    whole = round(stored.stored_at * MICROSECONDS)
    if whole / MICROSECONDS != stored.stored_at:
        message = f"message {stored.seq}: {stored.stored_at!r} s is not in whole microseconds"
        raise InvalidDocument(message, hint="a journal tells instants to the microsecond")
    return whole


def decode(content: bytes) -> tuple[Label, list[Stored]]:
    """Read a file. Raises Damaged if it is not a segment or contradicts its own label."""
    try:
        table = pq.read_table(pa.BufferReader(content))
    except _UNREADABLE as error:
        message = f"it is not Parquet: {error}"
        raise Damaged(message) from error
    label = parse_label((table.schema.metadata or {}).get(LABEL_KEY, b""))
    if label is None or not table.schema.equals(SCHEMA):
        message = f"it is Parquet, but no segment of {FORMAT}"
        raise Damaged(message)
    instants = table["stored_at"].cast(pa.int64()).to_pylist()
    messages = [
        Stored(seq, subject, instant / MICROSECONDS, message_id, payload)
        for seq, subject, instant, message_id, payload in zip(
            table["seq"].to_pylist(),
            table["subject"].to_pylist(),
            instants,
            table["id"].to_pylist(),
            table["payload"].to_pylist(),
            strict=True,
        )
    ]
    expected = range(label.first_seq, label.last_seq + 1)
    if label.messages != len(expected) or [stored.seq for stored in messages] != list(expected):
        message = f"it does not hold {label.span}"
        raise Damaged(message)
    return label, messages


def read_segment(directory: Path, entry: Entry) -> list[Stored]:
    """Return the messages of a segment. Raises Damaged, saying what became of the file."""
    path = directory / entry.file
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        message = f"{entry.file} is missing"
        raise Damaged(message) from None
    except OSError as error:
        message = f"{entry.file} cannot be read: {error.strerror}"
        raise Damaged(message) from error
    if len(content) != entry.size_bytes or hash_of(content) != entry.sha256:
        message = f"{entry.file}: {_what_became(path, content, entry)}"
        raise Damaged(message)
    try:
        label, messages = decode(content)
    except Damaged as error:
        message = f"{entry.file}: {error.message}"
        raise Damaged(message) from error
    if label != entry.label:
        message = f"{entry.file} does not agree with its line of the manifest"
        raise Damaged(message)
    return messages


def _what_became(path: Path, content: bytes, entry: Entry) -> str:
    """Say why a file is not the one that was written."""
    label = label_of(path)
    if label is not None and label.stream != entry.label.stream:
        return f"it is a segment of another stream ({label.stream})"
    if label is not None and label.span != entry.label.span:
        return f"it was exchanged: it holds {label.span}"
    if len(content) != entry.size_bytes:
        return f"it was cut or grew: {len(content)} bytes instead of {entry.size_bytes}"
    return "it was changed: its checksum is another one"


def label_of(path: Path) -> Label | None:
    """Return what a file says of itself, if it is a segment."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except _UNREADABLE:
        return None
    return parse_label(metadata.get(LABEL_KEY, b""))
