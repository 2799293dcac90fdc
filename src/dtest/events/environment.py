"""What a task's Python environment is built of: the recipe in a task's ``config``."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from dtest.events.fields import Flag

Line = Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\r\n\x00]+$")]
InTree = Annotated[str, Field(min_length=1, max_length=1_024)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]
Argument = Annotated[str, Field(max_length=131_072)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)([0-9]+(?:\.[0-9]+){0,2})")


@dataclass(frozen=True, slots=True)
class Environment:
    """What an environment is built of, once on each machine, by ``venv`` and pip."""

    requirements: Annotated[tuple[Line, ...], Field(max_length=1_000)] = ()
    """Lines as in a requirements file"""
    files: Annotated[tuple[InTree, ...], Field(max_length=100)] = ()
    """Requirements files of the workspace; name also those that they include"""
    project: InTree | None = None
    """Directory of the workspace whose `pyproject.toml` names dependencies; `.` is its root"""
    extras: Annotated[tuple[Word, ...], Field(max_length=100)] = ()
    """Optional dependencies of the project"""
    groups: Annotated[tuple[Word, ...], Field(max_length=100)] = ()
    """Dependency groups of the project"""
    install: Flag = False
    """Install the project itself, too: then each changed file makes another environment"""
    command: Annotated[tuple[Argument, ...], Field(max_length=1_000)] = ()
    """Run at the end in a copy of the workspace; the environment's programs come first in `PATH`"""
    python: Annotated[str, Field(max_length=200)] = ""
    """Version of the interpreter, as `>=3.11,<3.14`; by default the agent's own"""

    def __post_init__(self) -> None:
        """Raise ValueError for what contradicts itself."""
        clauses(self.python)
        for path in (*self.files, *(() if self.project is None else (self.project,))):
            inside(path)
        if self.project is None and (self.extras or self.groups or self.install):
            message = "extras, groups and install belong to a project: say which directory"
            raise ValueError(message)

    @property
    def needs_tree(self) -> bool:
        """Say whether it is built of files of the workspace."""
        return bool(self.files or self.project is not None or self.command)

    @property
    def sees_whole_tree(self) -> bool:
        """Say whether any file of the workspace may play a part."""
        return self.install or bool(self.command)


def inside(path: str) -> str:
    """Return a path inside of a tree in its plain form. Raises ValueError."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        message = f"{path!r} is not inside of the workspace; give a relative path without `..`"
        raise ValueError(message)
    return "/".join(parts) or "."


def clauses(constraint: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Read the constraint of a version. Raises ValueError."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for part in filter(None, constraint.replace(" ", "").split(",")):
        match = _CLAUSE.fullmatch(part)
        if match is None:
            message = f"{constraint!r} is no version of Python; give it as `>=3.11,<3.14`"
            raise ValueError(message)
        found.append((match[1], tuple(map(int, match[2].split(".")))))
    return tuple(found)


def accepts(constraint: str, version: tuple[int, ...]) -> bool:
    """Say whether a version holds to a constraint; ``==3.12`` takes every 3.12."""
    for sign, wanted in clauses(constraint):
        found = version[: len(wanted)]
        holds = {
            ">=": found >= wanted,
            "<=": found <= wanted,
            "==": found == wanted,
            "!=": found != wanted,
            ">": found > wanted,
            "<": found < wanted,
        }
        if not holds[sign]:
            return False
    return True
