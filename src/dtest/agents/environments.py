"""Python environments on one machine: built once, shared by attempts, bounded.

A directory counts once a note names it, which is written in one step at the end; who dies while
building leaves nothing that counts. One that an attempt works with is never removed.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from dtest.agents import recipe
from dtest.agents.filelock import held, waiting_for
from dtest.agents.interpreters import interpreter_for, with_pip
from dtest.agents.spool import Slot
from dtest.agents.workspaces import WorkspaceCache
from dtest.errors import DtestError, InvalidDocument, NotFound
from dtest.events.environment import Environment
from dtest.runtime.ids import short_id
from dtest.workspaces.manifest import Manifest

log = structlog.get_logger()

STEPS_SCRIPT = str(Path(__file__).with_name("steps.py"))
LOCKS = 64
LOGS_MAX = 50
"""Logs of builds that failed; the oldest go."""
TAIL_BYTES = 2_000
"""Of a log, in the reason of a failure."""
ABANDONED_S = 3_600.0
"""Beyond the longest build: then a directory without a note was left by somebody who died."""


class BuildFailed(DtestError):
    """An environment could not be built."""

    code = "env_setup_failed"

    def __init__(self, message: str, *, log_path: Path | None = None) -> None:
        super().__init__(message)
        self.log_path = log_path
        """All that the build said, if it came to that."""


@dataclass(frozen=True, slots=True)
class EnvironmentPolicy:
    """How much is kept, and how long a build may take."""

    cache_bytes_max: int = 16 << 30
    build_s_max: float = 1_800.0


@dataclass(frozen=True, slots=True)
class Asked:
    """An environment that an attempt asks for."""

    environment: Environment
    workspace: str | None
    manifest: Manifest | None
    slot: Slot
    key: str
    """Of the attempt: as long as it has the slot, the environment stays."""


class EnvironmentCache:
    """The environments on one machine."""

    def __init__(
        self,
        root: Path,
        workspaces: WorkspaceCache,
        *,
        policy: EnvironmentPolicy,
        env: dict[str, str],
        now: Callable[[], float],
    ) -> None:
        self._root = root
        self._workspaces = workspaces
        self._policy = policy
        self._env = env
        self._now = now

    async def provide(self, asked: Asked) -> Path:
        """Return the directory of an environment, built if need be.

        Raises BuildFailed, OSError when the disk does not take it, and as ``lay_out``.
        """
        asked_at = self._now()
        try:
            interpreter = await interpreter_for(asked.environment.python, self._env["PATH"])
            contents = _contents(asked)
        except NotFound as error:
            raise BuildFailed(error.message) from error
        name = recipe.name_of(asked.environment, contents, interpreter, workspace=asked.workspace)
        for directory in ("notes", "uses", "locks", "logs", "built"):
            (self._root / directory).mkdir(parents=True, exist_ok=True)
        async with waiting_for(self._root / "locks" / f"{int(name[:8], 16) % LOCKS:02d}"):
            found = self._taken(name, asked)
            if found is None:
                self._raise_failed(name, asked_at)
                await self._build(name, asked, interpreter)
                found = self._taken(name, asked)
        if found is None:
            message = "the environment was removed as soon as it was built: its cache is too small"
            raise BuildFailed(message)
        return found

    def _taken(self, name: str, asked: Asked) -> Path | None:
        """Return an environment that is there, noted as used by an attempt."""
        with held(self._root / "lock"):
            noted = _read(self._note(name))
            directory = self._root / "built" / str(noted.get("directory", ""))
            if not noted or not directory.is_dir():
                return None
            os.utime(self._note(name))
            use = {"name": name, "slot": str(asked.slot.path), "key": asked.key}
            _write(self._root / "uses" / short_id(), use)
            return directory

    def _raise_failed(self, name: str, asked_at: float) -> None:
        """Raise what a build told that went on while this one was waited for."""
        failed = _read(self._root / "logs" / f"{name[:32]}.json")
        if failed and float(failed["at"]) >= asked_at:
            path = self._root / "logs" / str(failed["log"])
            raise BuildFailed(str(failed["message"]), log_path=path)

    async def _build(self, name: str, asked: Asked, interpreter: recipe.Interpreter) -> None:
        own = f"{name[:32]}-{short_id()}"
        directory = self._root / "built" / own
        said = self._root / "logs" / f"{own}.log"
        work = self._root / "built" / f"{own}.work"
        log.info("environment_build_started", name=name, interpreter=interpreter.path)
        try:
            work.mkdir(parents=True)
            steps = await self._steps(asked, interpreter, directory, work)
            await self._run(name, steps, said)
            said.replace(directory / "build.log")
            size_bytes = await asyncio.to_thread(_size_of, directory)
            noted = {"directory": own, "size_bytes": size_bytes, "at": self._now()}
            _write(self._note(name), noted)
            log.info("environment_built", name=name, size_bytes=size_bytes)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        await asyncio.to_thread(self._shrink, name)

    async def _steps(
        self, asked: Asked, interpreter: recipe.Interpreter, directory: Path, work: Path
    ) -> list[dict[str, Any]]:
        wanted = asked.environment
        tree = work / "tree"
        if asked.workspace is not None and wanted.needs_tree:
            await self._workspaces.lay_out(asked.workspace, tree)
        else:
            tree.mkdir()
        lines = list(wanted.requirements)
        pyproject = recipe.pyproject_of(wanted)
        if pyproject is not None:
            try:
                lines += recipe.project_lines(wanted, (tree / pyproject).read_bytes())
            except InvalidDocument as error:
                message = f"{error.message}; {error.hint}" if error.hint else error.message
                raise BuildFailed(message) from error
        lists = [str(tree / path) for path in recipe.files_read(wanted) if path != pyproject]
        if lines:
            listed = work / "requirements.txt"
            listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            lists.append(str(listed))
        return recipe.steps(
            wanted,
            interpreter=interpreter,
            directory=str(directory),
            lists=tuple(lists),
            tree=str(tree),
            pip=with_pip(),
            env=lambda place: recipe.activated(place, self._env["PATH"]),
        )

    async def _run(self, name: str, steps: list[dict[str, Any]], said: Path) -> None:
        """Run commands. Raises BuildFailed."""
        code = await self._exit_status(steps, said)
        if code != 0:
            raise self._failed(name, said, code)

    async def _exit_status(self, steps: list[dict[str, Any]], said: Path) -> int | None:
        """Run commands; return the exit status, none if they took too long."""
        with said.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", STEPS_SCRIPT),
                stdin=asyncio.subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=self._env,
                start_new_session=True,
            )
        stdin = process.stdin
        if stdin is None:  # it was asked for
            raise AssertionError(steps)
        try:
            async with asyncio.timeout(self._policy.build_s_max):
                with suppress(ConnectionError):
                    stdin.write(orjson.dumps(steps) + b"\n")
                    await stdin.drain()
                return await process.wait()
        except TimeoutError:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            stdin.close()
            await process.wait()

    def _failed(self, name: str, said: Path, code: int | None) -> BuildFailed:
        with said.open("rb") as file:
            file.seek(max(0, said.stat().st_size - TAIL_BYTES))
            tail = file.read().decode(errors="replace").strip()
        limit_s = self._policy.build_s_max
        how = f"it took more than {limit_s:g} s" if code is None else "a step failed"
        message = f"the environment could not be built: {how}:\n{tail}"
        noted = {"at": self._now(), "log": said.name, "message": message}
        with suppress(OSError):
            _write(self._root / "logs" / f"{name[:32]}.json", noted)
        return BuildFailed(message, log_path=said)

    # -- what is kept ---------------------------------------------------------------------------

    def _shrink(self, newest: str) -> None:
        """Remove the least recently used beyond the bound, and what the dead left."""
        built = self._root / "built"
        with held(self._root / "lock"):
            used = self._used() | {newest}
            notes = [(path.stat().st_mtime_ns, path) for path in (self._root / "notes").iterdir()]
            rubbish: list[Path] = []
            kept: set[str] = set()
            size_bytes = 0
            for _, path in sorted(notes, reverse=True):
                noted = _read(path)
                directory = str(noted.get("directory", path.name))
                too_much = size_bytes + int(noted.get("size_bytes", 0))
                if too_much > self._policy.cache_bytes_max and path.name not in used:
                    path.unlink(missing_ok=True)
                    rubbish.append(built / directory)
                    log.info("environment_removed", name=path.name)
                else:
                    size_bytes = too_much
                    kept.add(directory)
            before = self._now() - self._policy.build_s_max - ABANDONED_S
            rubbish += [
                path
                for path in built.iterdir()
                if path.name not in kept and path.stat().st_mtime < before
            ]
        for path in rubbish:
            shutil.rmtree(path, ignore_errors=True)
        for path in self._old_logs():
            path.unlink(missing_ok=True)

    def _used(self) -> set[str]:
        """Return the environments that attempts work with; forget uses that are over."""
        found: set[str] = set()
        for path in (self._root / "uses").iterdir():
            use = _read(path)
            assigned = Slot(Path(str(use.get("slot", "")))).assignment() if use else None
            if assigned is not None and f"{assigned.task_id}.{assigned.attempt}" == use["key"]:
                found.add(str(use["name"]))
            else:
                path.unlink(missing_ok=True)
        return found

    def _old_logs(self) -> list[Path]:
        logs = sorted((self._root / "logs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return logs[: max(0, len(logs) - LOGS_MAX)]

    def _note(self, name: str) -> Path:
        return self._root / "notes" / name


def _contents(asked: Asked) -> dict[str, tuple[str, ...]]:
    """Return what the files hold that the environment names. Raises NotFound."""
    manifest = asked.manifest
    found: dict[str, tuple[str, ...]] = {}
    for path in recipe.files_read(asked.environment):
        file = manifest.file(path) if manifest is not None else None
        if file is None:
            message = f"the workspace has no file {path}, of which the environment is built"
            raise NotFound(message, hint="is it ignored by git?")
        found[path] = file.chunks
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(orjson.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a note: whole, or not at all. Raises OSError."""
    beside = path.with_name(f".{path.name}.{short_id()}")
    beside.write_bytes(orjson.dumps(content))
    beside.replace(path)


def _size_of(directory: Path) -> int:
    size_bytes = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                size_bytes += Path(root, name).lstat().st_size
    return size_bytes
