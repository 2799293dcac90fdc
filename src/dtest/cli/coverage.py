"""``dtest report coverage``: what the workers of a run measured with coverage.py, as one."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from dtest.caller.api_client import ApiClient
from dtest.caller.gathering import attempts_of
from dtest.cli import output
from dtest.cli.coverage_script import EXIT_MISSING
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import NotFound, UsageError
from dtest.wording import counted

SCRIPT = Path(__file__).with_name("coverage_script.py")
DATA = ".coverage"
UNKNOWN_SHOWN_MAX = 5
_HINT = (
    "let coverage.py write there: in [tool.coverage.run] parallel = true and "
    'data_file = "${DTEST_ARTIFACT_DIR-.}/.coverage"'
)


def coverage(
    run: str = "@last",
    *,
    output_directory: Annotated[Path, Parameter(name="--output")],
    python: str | None = None,
    source: Path | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Combine the coverage data that a run's attempts left as artefacts, and report on it.

    Every file `.coverage` or `.coverage.*` that an attempt left in DTEST_ARTIFACT_DIR counts,
    wherever the tree was on its worker. Writes `.coverage`, `coverage.xml` and `html/`.

    Example: `dtest report coverage @last --output coverage`

    Parameters
    ----------
    run
        The run's id, a unique beginning of it, or ``@last``.
    output_directory
        Where to write; made if it is not there.
    python
        An interpreter that has coverage.py; by default dtest's own.
    source
        The tested tree, with its settings of coverage.py; by default the current directory.
    """
    tree = (source or Path.cwd()).resolve()
    if not tree.is_dir():
        message = f"--source {source} is no directory"
        raise UsageError(message)
    interpreter = _interpreter(python)
    api = open_api(call.settings())
    run_id = str(api.get(f"/api/runs/{run}")["run_id"])
    with tempfile.TemporaryDirectory(prefix="dtest-coverage-") as directory:
        files = _fetched(api, run_id, Path(directory))
        if not files:
            message = f"run {run_id} left no coverage data in DTEST_ARTIFACT_DIR"
            raise NotFound(message, hint=_HINT)
        told = _combined(interpreter, tree, _made(output_directory), files)
    if call.json:
        output.as_json({"run_id": run_id, "data_files": len(files), **told})
        return 0
    print(
        f"{told['percent']:.1f} % of {counted(told['files'], 'file')}, by {len(files)} data files"
    )
    if told["unknown"]:
        shown = ", ".join(told["unknown"][:UNKNOWN_SHOWN_MAX])
        output.say(f"dtest: {len(told['unknown'])} measured files are not in {tree}: {shown}")
    return 0


def _interpreter(python: str | None) -> str:
    found = shutil.which(python) if python is not None else sys.executable
    if found is None:
        message = f"{python} is not an interpreter"
        raise UsageError(message, hint="give the path of a python that has coverage.py")
    return str(Path(found).absolute())


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"--output {directory} cannot be made: {error.strerror}"
        raise UsageError(message, hint="give a directory that can be written") from error
    return directory.resolve()


def _fetched(api: ApiClient, run_id: str, directory: Path) -> list[Path]:
    """Store every data file under a name of its own."""
    files: list[Path] = []
    for attempt in attempts_of(api, run_id):
        for left in attempt.artifacts:
            name = left.name.rpartition("/")[2]
            if name != DATA and not name.startswith(f"{DATA}."):
                continue
            path = f"/api/tasks/{attempt.task_id}/artifacts/{attempt.attempt}/{quote(left.name)}"
            files.append(directory / f"{DATA}.{len(files)}")
            files[-1].write_bytes(api.content(path))
    return files


def _combined(interpreter: str, tree: Path, into: Path, files: list[Path]) -> dict[str, Any]:
    command = [interpreter, "-I", str(SCRIPT), str(tree), str(into), *map(str, files)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == EXIT_MISSING:
        message = ended.stderr.strip()
        hint = f"`{interpreter} -m pip install coverage`, or --python with one that has it"
        raise UsageError(message, hint=hint)
    if ended.returncode:
        message = f"coverage.py cannot combine the data: {ended.stderr.strip()}"
        raise UsageError(message, hint="measure every part in the same way (branches or not)")
    return dict(json.loads(ended.stdout.splitlines()[-1]))
