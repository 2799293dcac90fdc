"""Packs a directory into one file and unpacks it again; trusts neither the one nor the other.

Plain files and directories only. What is named ``*.tmp`` is being written and is left out.
"""

import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dtest.errors import InvalidDocument

UNFINISHED = ".tmp"
HELD_FILES_MAX = 64
"""Files that are held open until it is known that nobody was writing them."""
_SURPRISES = (FileExistsError, NotADirectoryError, IsADirectoryError)
_UNREADABLE = (tarfile.TarError, EOFError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may hold."""

    bytes_max: int
    files_max: int


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A file or directory as it was seen. What changes beside it in a directory says nothing."""

    name: str
    is_directory: bool
    mode: int
    size_bytes: int = 0
    modified_ns: int = 0
    inode: int = 0


Listing = tuple[Entry, ...]


class Changed(Exception):
    """The directory was changed while it was packed."""


def look(root: Path, bounds: Bounds) -> Listing:
    """Return what a directory holds, in order.

    Raises InvalidDocument for what cannot be packed: links, devices, too much; OSError.
    """
    found: list[Entry] = []
    size_bytes = 0
    for entry in _walk(root, ""):
        found.append(entry)
        size_bytes += entry.size_bytes
        if len(found) > bounds.files_max:
            message = f"it holds more than {bounds.files_max} files and directories"
            raise InvalidDocument(message)
    if size_bytes > bounds.bytes_max:
        message = f"it holds {size_bytes} bytes; at most {bounds.bytes_max} are stored"
        raise InvalidDocument(message)
    return tuple(sorted(found))


def _walk(root: Path, below: str) -> Iterator[Entry]:
    try:
        entries = list(os.scandir(root / below))
    except FileNotFoundError:
        return  # just removed
    for entry in entries:
        if entry.name.endswith(UNFINISHED):
            continue
        name = f"{below}{entry.name}"
        try:
            seen = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(seen.st_mode):
            yield Entry(name, is_directory=True, mode=stat.S_IMODE(seen.st_mode))
            yield from _walk(root, f"{name}/")
        elif stat.S_ISREG(seen.st_mode):
            yield _file(name, seen)
        else:
            message = f"{name!r} is neither a file nor a directory; links are not stored"
            raise InvalidDocument(message)


def _file(name: str, seen: os.stat_result) -> Entry:
    mode = stat.S_IMODE(seen.st_mode)
    return Entry(name, False, mode, seen.st_size, seen.st_mtime_ns, seen.st_ino)


def digest(listing: Listing) -> str:
    """Return a name for what was seen: another one as soon as anything changed."""
    return hashlib.sha256(repr(listing).encode("utf-8", "surrogateescape")).hexdigest()


class Packed:
    """A directory in an archive, before it is known whether its files were complete.

    The same content gives the same bytes. The first few files stay open until ``close``.
    """

    def __init__(self, root: Path, target: Path, listing: Listing) -> None:
        self.root = root
        self.path = target
        self.listing = listing
        self.sha256 = ""
        self.size_bytes = 0
        self._held: list[tuple[int, Entry]] = []

    def fill(self) -> None:
        """Write the archive. Raises Changed, OSError; ``close`` is to follow in any case."""
        with tarfile.open(self.path, "w", format=tarfile.PAX_FORMAT) as tar:
            for entry in self.listing:
                self._add(tar, entry)
        self.size_bytes = self.path.stat().st_size
        self.sha256 = sha256_of(self.path)

    def _add(self, tar: tarfile.TarFile, entry: Entry) -> None:
        member = tarfile.TarInfo(entry.name)
        member.mode = entry.mode
        if entry.is_directory:
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
            return
        member.size, member.mtime = entry.size_bytes, entry.modified_ns / 1e9
        try:
            descriptor = os.open(
                self.root / entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except FileNotFoundError as error:
            raise Changed(entry.name) from error
        if len(self._held) < HELD_FILES_MAX:
            self._held.append((descriptor, entry))
            self._copy(tar, member, descriptor, entry)
            return
        try:
            self._copy(tar, member, descriptor, entry)
        finally:
            os.close(descriptor)

    @staticmethod
    def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, descriptor: int, entry: Entry) -> None:
        if _file(entry.name, os.fstat(descriptor)) != entry:
            raise Changed(entry.name)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            try:
                tar.addfile(member, file)
            except OSError as error:
                if error.errno is None:  # it ended before its size
                    raise Changed(entry.name) from error
                raise
        if _file(entry.name, os.fstat(descriptor)) != entry:
            raise Changed(entry.name)

    def is_whole(self) -> bool:
        """Say whether no file was written to since it was packed.

        A file that was replaced is none of these: whoever replaces files, completes them first.
        """
        held = {entry.name for _, entry in self._held}
        return all(_same(os.fstat(descriptor), entry) for descriptor, entry in self._held) and all(
            self._is_in_place(entry)
            for entry in self.listing
            if not entry.is_directory and entry.name not in held
        )

    def _is_in_place(self, entry: Entry) -> bool:
        try:
            return _file(entry.name, os.lstat(self.root / entry.name)) == entry
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of the files, and remove the archive."""
        for descriptor, _ in self._held:
            os.close(descriptor)
        self._held.clear()
        self.path.unlink(missing_ok=True)


def _same(seen: os.stat_result, entry: Entry) -> bool:
    return (seen.st_size, seen.st_mtime_ns) == (entry.size_bytes, entry.modified_ns)


def sha256_of(path: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, root: Path, bounds: Bounds) -> None:
    """Put what an archive holds into ``root``, which is made anew.

    Raises InvalidDocument for an archive that ``Packed`` would not make, OSError.
    """
    if root.is_symlink():
        root.unlink()
    elif root.exists():
        shutil.rmtree(root)
    root.mkdir()
    try:
        with tarfile.open(archive, "r:") as tar:
            _extract(tar, root, bounds)
    except _UNREADABLE as error:
        message = f"it cannot be read: {error}"
        raise InvalidDocument(message) from error
    except _SURPRISES as error:
        message = f"it names {error.filename} twice"
        raise InvalidDocument(message) from error


def _extract(tar: tarfile.TarFile, root: Path, bounds: Bounds) -> None:
    directories: list[tuple[Path, int]] = []
    count = size_bytes = 0
    for member in tar:
        count, size_bytes = count + 1, size_bytes + member.size
        if count > bounds.files_max or size_bytes > bounds.bytes_max:
            message = f"it holds more than {bounds.files_max} files or {bounds.bytes_max} bytes"
            raise InvalidDocument(message)
        path = root.joinpath(*_parts(member))
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.type == tarfile.DIRTYPE:
            path.mkdir(exist_ok=True)
            directories.append((path, member.mode))
        else:
            _extract_file(tar, member, path)
    for path, mode in directories:
        path.chmod(mode & 0o777 | 0o700)


def _parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    """Return where a member goes. Raises InvalidDocument."""
    parts = PurePosixPath(member.name).parts
    if not parts or parts[0].startswith("/") or ".." in parts:
        message = f"its member {member.name!r} would lie outside"
        raise InvalidDocument(message)
    if member.type not in {tarfile.REGTYPE, tarfile.DIRTYPE} or member.issparse():
        message = f"its member {member.name!r} is neither a plain file nor a directory"
        raise InvalidDocument(message)
    return parts


def _extract_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is None:  # only for what is no file
        raise AssertionError(member.name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with content, os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        shutil.copyfileobj(content, file)
    path.chmod(member.mode & 0o777 | 0o400)
    modified_ns = round(member.mtime * 1e9)
    os.utime(path, ns=(modified_ns, modified_ns))
