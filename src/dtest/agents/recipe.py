"""What an environment is built of, down to what names it. Pure."""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import orjson

from dtest.errors import InvalidDocument
from dtest.events.environment import Environment, inside

NESTED_MAX = 20
"""Dependency groups may include each other so deep."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of this machine."""

    path: str
    version: tuple[int, ...]
    implementation: str
    platform: str

    @property
    def shown(self) -> str:
        """Its version, for people."""
        return ".".join(map(str, self.version))


def pyproject_of(environment: Environment) -> str | None:
    """Return where the project's file lies in the workspace, none if it plays no part."""
    if environment.project is None:
        return None
    return str(PurePosixPath(inside(environment.project)) / "pyproject.toml")


def files_read(environment: Environment) -> tuple[str, ...]:
    """Return the files of the workspace that are read by name."""
    project = pyproject_of(environment)
    return (*map(inside, environment.files), *(() if project is None else (project,)))


def name_of(
    environment: Environment,
    contents: dict[str, tuple[str, ...]],
    interpreter: Interpreter,
    *,
    workspace: str | None,
) -> str:
    """Return the digest of all that an environment depends on.

    ``contents`` has the digests of the files that it names; ``workspace`` is the whole tree's.
    """
    document = {
        "recipe": asdict(environment),
        "contents": dict(sorted(contents.items())),
        "interpreter": asdict(interpreter),
        "workspace": workspace if environment.sees_whole_tree else None,
    }
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def project_lines(environment: Environment, pyproject: bytes) -> tuple[str, ...]:
    """Return the requirements that the project's file names. Raises InvalidDocument.

    Where the project itself is installed, its dependencies and extras come with it.
    """
    try:
        content = tomllib.loads(pyproject.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{pyproject_of(environment)} cannot be read: {error}"
        raise InvalidDocument(message) from error
    lines: list[str] = []
    if not environment.install:
        lines += _project(content.get("project", {}), environment)
    groups = {_plain(name): group for name, group in content.get("dependency-groups", {}).items()}
    for name in environment.groups:
        lines += _group(groups, name, 0)
    return tuple(lines)


def _project(project: dict[str, Any], environment: Environment) -> list[str]:
    dynamic = project.get("dynamic", [])
    wanted = ["dependencies", *(["optional-dependencies"] if environment.extras else [])]
    for key in wanted:
        if key in dynamic:
            message = f"the {key} of the project are made when it is built"
            hint = "say `install`, so that it is, or name its requirements"
            raise InvalidDocument(message, hint=hint)
    lines = list(project.get("dependencies", []))
    extras = {
        _plain(name): extra for name, extra in project.get("optional-dependencies", {}).items()
    }
    own = _plain(str(project.get("name", "")))
    for name in environment.extras:
        lines += _extra(extras, name, own, 0)
    return lines


def _extra(extras: dict[str, Any], name: str, own: str, depth: int) -> list[str]:
    """Return the lines of an extra; one may ask for others of the same project."""
    if _plain(name) not in extras or depth > NESTED_MAX:
        raise _unknown("extra", name, extras)
    lines: list[str] = []
    for line in extras[_plain(name)]:
        asked, bracket, rest = str(line).partition("[")
        if bracket and _plain(asked.strip()) == own and rest.strip().endswith("]"):
            for each in rest.strip()[:-1].split(","):
                lines += _extra(extras, each.strip(), own, depth + 1)
        else:
            lines.append(str(line))
    return lines


def _group(groups: dict[str, Any], name: str, depth: int) -> list[str]:
    if _plain(name) not in groups or depth > NESTED_MAX:
        raise _unknown("dependency group", name, groups)
    lines: list[str] = []
    for line in groups[_plain(name)]:
        match line:
            case str():
                lines.append(line)
            case {"include-group": str(other)}:
                lines += _group(groups, other, depth + 1)
            case _:
                message = f"the dependency group {name} holds {line!r}, which is no requirement"
                raise InvalidDocument(message)
    return lines


def _unknown(noun: str, name: str, known: dict[str, Any]) -> InvalidDocument:
    message = f"the project has no {noun} {name}"
    return InvalidDocument(message, hint=f"it has: {', '.join(sorted(known)) or 'none'}")


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def steps(
    environment: Environment,
    *,
    interpreter: Interpreter,
    directory: str,
    lists: tuple[str, ...],
    tree: str,
    pip: str | None,
    env: Callable[[str], dict[str, str]],
) -> list[dict[str, Any]]:
    """Return the commands that build an environment in ``directory``.

    ``lists`` are requirements files on disk, ``tree`` is where the workspace lies if any of it is
    needed. ``pip`` is an interpreter with a pip that can serve another one.
    """
    inner = f"{directory}/bin/python"
    outer = pip if pip is not None and not environment.command else None
    bare = ["--without-pip"] if outer is not None else []
    commands = [[interpreter.path, "-I", "-m", "venv", *bare, directory]]
    asked = [part for path in lists for part in ("-r", path)]
    if environment.install and environment.project is not None:
        extras = f"[{','.join(environment.extras)}]" if environment.extras else ""
        asked.append(f"{tree}/{inside(environment.project)}{extras}")
    if asked:
        via = [outer, "-I", "-m", "pip", "--python", inner] if outer else [inner, "-I", "-m", "pip"]
        quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        commands.append([*via, "install", *quiet, *asked])
    if environment.command:
        commands.append(list(environment.command))
    return [{"argv": argv, "cwd": tree, "env": env(directory)} for argv in commands]


def activated(directory: str, path: str) -> dict[str, str]:
    """Return the variables that make an environment's programs come first."""
    return {"VIRTUAL_ENV": directory, "PATH": f"{directory}/bin:{path}"}
