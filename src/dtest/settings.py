"""The one reader of environment and configuration files; everyone else is handed values.

Precedence: flag, then environment (``DTEST_*``, a secret also by ``DTEST_*_FILE``), then
``dtest.toml`` or ``[tool.dtest]`` of the nearest ``pyproject.toml``, then the user's
``config.toml``, then the running local stack, then the default.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from dtest.errors import Unavailable, UsageError
from dtest.events.names import TOKEN_PATTERN, CellId
from dtest.runtime.stack_file import StackFile, read_stack_file

OWN_FILE = "dtest.toml"
OWN_STACK = "running stack"
"""Begins the origin of what a stack on this machine says."""
SECRETS = frozenset({"nats_password", "nats_token", "token"})
LIMITS: dict[str, tuple[str, str]] = {
    "submissions_max": ("32", "submissions that the API takes at once"),
    "submission_bytes_max": ("134217728", "bytes of all submissions that the API takes at once"),
    "uploads_max": ("16", "uploads of workspaces that the API takes at once"),
    "upload_bytes_max": ("134217728", "bytes of all uploads that the API takes at once"),
    "requests_max": ("64", "other requests to change something that the API takes at once"),
    "reads_max": ("64", "reads that the API answers at once"),
    "waits_max": ("1024", "reads that wait for something that the API holds at once"),
    "queries_max": ("8", "SQL queries that the API answers at once"),
    "streams_max": ("64", "event streams, and outputs that are followed, at once"),
    "backlog_tasks_max": ("1000000", "unfinished tasks of the cell; more are not taken"),
    "journal_reserve_ratio": ("0.1", "part of the journal that clients leave to results"),
    "workspace_cache_bytes": ("4294967296", "what agents keep of workspaces on one machine"),
    "environment_cache_bytes": ("17179869184", "what agents keep of environments on one machine"),
    "busy_wait_s": (
        "120",
        "how long a call waits in all while the API is overloaded or the journal away",
    ),
}
"""Every bound that may be set, with its default and what it bounds; docs/limits.md tells more."""
TABLES: dict[str, type] = {"agent": dict, "requirements": list, "test": dict}
"""What a file may hold besides plain values; whoever needs it reads it."""
DEFAULTS: dict[str, str] = {"cell": "main", **{key: value for key, (value, _) in LIMITS.items()}}
KEYS: dict[str, str] = {
    "cell": "name of the cell: one journal with its leader and workers",
    "nats_url": "where the NATS servers are, comma-separated",
    "nats_user": "user name at NATS",
    "nats_password": "password at NATS",
    "nats_token": "token at NATS, instead of user and password",
    "nats_creds": "NATS credentials file",
    "api_url": "where the HTTP API is",
    "token": "bearer token of the HTTP API",
    "nats_ca": "file with the certificates of the authority that NATS servers show, as PEM",
    "replicas": "how many servers of a cluster keep each stream: 1, 3 or 5",
    "state_dir": "where local stacks and agents keep their state",
    **{key: meaning for key, (_, meaning) in LIMITS.items()},
}
FLAGS: dict[str, str] = {
    "cell": "--cell",
    "nats_url": "--nats",
    "api_url": "--api",
    "token": "--token",
    "state_dir": "--state-dir",
}
"""The keys that the command line takes, with its options."""


Tables = dict[str, tuple[Any, str]]
"""By name, each with the file that it came from."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it came from."""

    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved."""

    values: Mapping[str, Setting]
    tables: Mapping[str, Any] = field(default_factory=dict)
    """The ``[agent]`` table of the configuration file, and others that are not plain values."""
    table_origins: Mapping[str, str] = field(default_factory=dict)
    """The file of each of these."""

    def get(self, key: str) -> str | None:
        """Return a value, none if nothing states it."""
        found = self.values.get(key)
        return found.value if found is not None else None

    @property
    def cell(self) -> CellId:
        """The cell."""
        return CellId(self.get("cell") or "main")

    @property
    def state_dir(self) -> Path:
        """Where local state is kept."""
        stated = self.get("state_dir")
        return Path(stated) if stated else default_state_dir()

    @property
    def replicas(self) -> int | None:
        """How many servers of a cluster keep each stream; none if nothing states it."""
        stated = self.values.get("replicas")
        if stated is None:
            return None
        if stated.value not in ("1", "3", "5"):
            message = f"replicas is {stated.value!r} ({stated.origin}); 1, 3 or 5 can be had"
            raise UsageError(message)
        return int(stated.value)

    def limit(self, key: str) -> float:
        """Return one of ``LIMITS``: a number that is not negative. Raises UsageError."""
        stated = self.values.get(key) or Setting(DEFAULTS[key], "default")
        try:
            value = float(stated.value)
        except ValueError:
            value = -1.0
        if not 0.0 <= value < float("inf"):
            message = f"{key} is {stated.value!r} ({stated.origin}), not a number from 0"
            raise UsageError(message, hint=f"it states: {KEYS[key]}; see docs/limits.md")
        return value

    def require(self, key: str) -> str:
        """Return a value, or raise Unavailable that names the ways to state it."""
        value = self.get(key)
        if value is None:
            ways = " or ".join(filter(None, (f"DTEST_{key.upper()}", FLAGS.get(key))))
            message = f"no cell is up here, and {key} ({KEYS[key]}) is not set"
            raise Unavailable(message, hint=f"run `dtest up`, or set {ways}")
        return value


def default_state_dir() -> Path:
    """Return ``$XDG_STATE_HOME/dtest`` or the platform's equivalent."""
    return Path(platformdirs.user_state_path("dtest"))


def environment() -> dict[str, str]:
    """Return a copy of the process's environment."""
    return dict(os.environ)


def environment_of_roles() -> dict[str, str]:
    """Return what the processes of a cell's roles inherit: of dtest's own, the bounds only."""
    bounds = {f"DTEST_{key.upper()}" for key in LIMITS}
    return {
        word: value
        for word, value in os.environ.items()
        if not word.startswith("DTEST_") or word in bounds
    }


def change_environment(words: Mapping[str, str | None]) -> None:
    """Set or remove variables of the process's environment: for one that has just begun."""
    for word, value in words.items():
        if value is None:
            os.environ.pop(word, None)
        else:
            os.environ[word] = value


def load_settings(
    flags: Mapping[str, str | None] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Resolve every setting. Raises UsageError for files that cannot be read."""
    env = os.environ if env is None else env
    tables: Tables = {}
    layers: list[dict[str, Setting]] = [
        {key: Setting(v, f"flag {FLAGS[key]}") for key, v in (flags or {}).items() if v},
        _from_environment(env),
        _from_project(cwd or Path.cwd(), tables),
        _from_file(_user_file(), (), tables),
    ]
    values: dict[str, Setting] = {}
    for layer in layers:
        for key, setting in layer.items():
            values.setdefault(key, setting)
    for key, value in DEFAULTS.items():
        values.setdefault(key, Setting(value, "default"))
    _check_cell(values["cell"])
    settings = Settings(
        values,
        {key: value for key, (value, _) in tables.items()},
        {key: origin for key, (_, origin) in tables.items()},
    )
    for key, setting in _from_stack(settings).items():
        values.setdefault(key, setting)
    return settings


def _check_cell(cell: Setting) -> None:
    """Raise UsageError for a name that no subject, and no directory below another, can have."""
    if not re.fullmatch(TOKEN_PATTERN, cell.value):
        message = f"{cell.value!r} cannot name a cell ({cell.origin})"
        raise UsageError(message, hint="1 to 100 of the characters A-Z a-z 0-9 _ -")


def _from_environment(env: Mapping[str, str]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for key in KEYS:
        name = f"DTEST_{key.upper()}"
        if env.get(name):
            found[key] = Setting(env[name], f"environment {name}")
        elif key in SECRETS and env.get(f"{name}_FILE"):
            path = Path(env[f"{name}_FILE"])
            try:
                secret = path.read_text(encoding="utf-8").strip()
                found[key] = Setting(secret, f"file {path} by {name}_FILE")
            except (OSError, UnicodeDecodeError) as error:
                message = f"{name}_FILE names a file that cannot be read: {error}"
                raise UsageError(message) from error
    if "nats_url" not in found and env.get("NATS_URL"):
        found["nats_url"] = Setting(env["NATS_URL"], "environment NATS_URL")
    return found


def settings_files(cwd: Path) -> list[Path]:
    """Return the files that say, or would say if they were there, what the settings are."""
    looked_at: list[Path] = []
    for path in _project_files(cwd):
        looked_at.append(path)
        if path.is_file():
            break
    return [*looked_at, _user_file()]


def _project_files(start: Path) -> Iterator[Path]:
    """Yield the files of a project's settings; the first that is there counts."""
    for directory in (start, *start.parents):
        yield directory / OWN_FILE
        yield directory / "pyproject.toml"


def _user_file() -> Path:
    return Path(platformdirs.user_config_path("dtest")) / "config.toml"


def _from_project(start: Path, tables: Tables) -> dict[str, Setting]:
    found = next((path for path in _project_files(start) if path.is_file()), None)
    if found is None:
        return {}
    return _from_file(found, () if found.name == OWN_FILE else ("tool", "dtest"), tables)


def _from_file(path: Path, inside: tuple[str, ...], tables: Tables) -> dict[str, Setting]:
    if not path.is_file():
        return {}
    try:
        content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise UsageError(message) from error
    for part in inside:
        content = content.get(part, {}) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        message = f"{path}: {'.'.join(inside)} is no table"
        raise UsageError(message, hint=f"known settings: {', '.join(sorted(KEYS))}")
    found: dict[str, Setting] = {}
    for key, value in content.items():
        if key in TABLES and isinstance(value, TABLES[key]):
            tables.setdefault(key, (value, str(path)))
        elif key in KEYS:
            found[key] = Setting(str(value), f"file {path}")
        else:
            message = f"{path}: unknown setting {key!r}"
            raise UsageError(message, hint=f"known: {', '.join(sorted((*KEYS, *TABLES)))}")
    return found


def _from_stack(settings: Settings) -> dict[str, Setting]:
    """Take what a stack on this machine wrote down, unless something else is addressed."""
    if settings.get("nats_url") or settings.get("api_url"):
        return {}
    path = stack_path(settings)
    stack = read_stack_file(path)
    return {} if stack is None else _of_stack(stack, f"{OWN_STACK} {path}")


def settings_of(stack: StackFile, state_dir: Path) -> Settings:
    """Return settings that address a running stack and nothing else."""
    origin = OWN_STACK
    own = {"cell": Setting(stack.cell, origin), "state_dir": Setting(str(state_dir), origin)}
    return Settings({**own, **_of_stack(stack, origin)})


def _of_stack(stack: StackFile, origin: str) -> dict[str, Setting]:
    stated = {
        "nats_url": stack.nats_url,
        "nats_user": stack.nats_user,
        "nats_password": stack.nats_password,
        "nats_token": stack.nats_token,
        "api_url": stack.api_url,
        "token": stack.token,
    }
    return {key: Setting(value, origin) for key, value in stated.items() if value}


def stack_path(settings: Settings) -> Path:
    """Return where the stack of the settings' cell is written down."""
    return settings.state_dir / settings.cell / "stack.json"


def parse_labels(texts: list[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` items. Raises UsageError."""
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            message = f"label {text!r} is not of the form NAME=VALUE"
            raise UsageError(message, hint="as in --label team=vision")
        labels[name] = value
    return labels
