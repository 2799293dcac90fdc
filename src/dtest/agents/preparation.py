"""Brings what an attempt needs before its process can start: checkpoint, workspace, environment.

What goes wrong has a reason of its own, so that nobody takes it for a failed test.
"""

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from dtest.agents.checkpoints import AttemptCheckpoints
from dtest.agents.environments import Asked, BuildFailed, EnvironmentCache
from dtest.agents.spool import Slot
from dtest.agents.workspaces import WorkspaceCache
from dtest.errors import InvalidDocument, NotFound, Unavailable
from dtest.events.attempt import AttemptAssigned, Checkpoint
from dtest.events.config import CommandConfig, TestConfig, parse_config
from dtest.events.reasons import Reason
from dtest.workspaces.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was brought."""

    tree: Path | None = None
    """The attempt's own copy of its workspace."""
    environment: Path | None = None
    path: str = ""
    """Where programs are looked for behind the environment's own."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all attempts of one agent build with."""

    workspaces: WorkspaceCache
    environments: EnvironmentCache
    path: str


class Unprepared(Exception):
    """The attempt cannot start."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Preparation:
    """What one attempt needs."""

    def __init__(
        self,
        workshop: Workshop,
        assigned: AttemptAssigned,
        slot: Slot,
        checkpoints: AttemptCheckpoints,
    ) -> None:
        self._workshop = workshop
        self._assigned = assigned
        self._slot = slot
        self._checkpoints = checkpoints
        self._config = _config(assigned)

    @property
    def takes_time(self) -> bool:
        """Say whether anything has to be brought."""
        config = self._config
        return self._assigned.checkpoint is not None or (
            config is not None and (config.workspace is not None or config.environment is not None)
        )

    async def run(self) -> Prepared:
        """Bring it. Raises Unprepared, OSError when the disk does not take it."""
        given = self._assigned.checkpoint
        if given is not None:
            await self._restore(given)
        config = self._config
        if config is None:
            return Prepared()
        tree: Path | None = None
        manifest: Manifest | None = None
        if config.workspace is not None:
            tree = self._slot.path / "work"
            manifest = await self._lay_out(config.workspace, tree)
            if not (tree / (config.cwd or ".")).is_dir():
                message = f"the workspace has no directory {config.cwd}"
                raise Unprepared(Reason.MISSING_INPUT, message)
        environment = await self._environment(config, manifest)
        return Prepared(tree, environment, self._workshop.path)

    async def _restore(self, given: Checkpoint) -> None:
        what = f"checkpoint {given.number} of attempt {given.attempt}"
        try:
            await self._checkpoints.restore(given)
        except Unavailable as error:
            raise Unprepared(Reason.ARTIFACT_DOWNLOAD, f"{what}: {error}") from error
        except InvalidDocument as error:
            detail = f"{what} is damaged: {error}; the next attempt starts anew"
            raise Unprepared(Reason.CHECKPOINT_DAMAGED, detail) from error

    async def _lay_out(self, digest: str, tree: Path) -> Manifest:
        try:
            return await self._workshop.workspaces.lay_out(digest, tree)
        except NotFound as error:
            raise Unprepared(Reason.MISSING_INPUT, str(error)) from error
        except Unavailable as error:
            raise Unprepared(Reason.ARTIFACT_DOWNLOAD, str(error)) from error

    async def _environment(
        self, config: CommandConfig | TestConfig, manifest: Manifest | None
    ) -> Path | None:
        if config.environment is None:
            return None
        key = f"{self._assigned.task_id}.{self._assigned.attempt}"
        asked = Asked(config.environment, config.workspace, manifest, self._slot, key)
        try:
            return await self._workshop.environments.provide(asked)
        except BuildFailed as error:
            if error.log_path is not None:
                await asyncio.to_thread(self._show, error.log_path)
            raise Unprepared(Reason.ENV_SETUP_FAILED, str(error)) from error
        except Unavailable as error:
            raise Unprepared(Reason.ARTIFACT_DOWNLOAD, str(error)) from error

    def _show(self, log_path: Path) -> None:
        """Have the attempt's output be what the build said."""
        with suppress(FileNotFoundError):  # it was the oldest of many
            shutil.copyfile(log_path, self._slot.path / "output.log")


def _config(assigned: AttemptAssigned) -> CommandConfig | TestConfig | None:
    """Read the config; what is wrong with it is told when the process is to be started."""
    try:
        return parse_config(assigned.type, assigned.config)
    except ValidationError:
        return None
