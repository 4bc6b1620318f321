"""SQLMesh beside the plan: an environment of its own, and ``sqlmesh_worker.py`` running in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.soundness_world import LABEL, SOURCES, State

ENVIRONMENT = Path(__file__).parent.parent / ".state" / "sqlmesh"
_SAME_IN_BOTH = ("dbt-core", "dbt-duckdb")
_PACKAGES = (
    "sqlmesh[dbt,duckdb]==0.236.4",
    *(f"{package}=={version(package)}" for package in _SAME_IN_BOTH),
)
# SQLMesh knows nothing of dbt-duckdb's external locations.
_STEPS = "create table bank.steps as select * from generate_series(1, 2);"


def sqlmesh_environment(folder: Path) -> Path:
    """The Python of an environment with SQLMesh, which is made if it is not there."""
    python, wanted = folder / "bin" / "python", "\n".join(_PACKAGES)
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *_PACKAGES], check=True)
        stamp.write_text(wanted)
    return python


class SQLMesh:
    """``sqlmesh_worker.py`` in a process of its own, asked about one state after the other."""

    def __init__(self, python: Path, root: Path, base: State) -> None:
        self._root = root
        root.mkdir()
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("sqlmesh_worker.py")), str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if error := self._ask(base, sources=SOURCES + _STEPS)["error"]:
            raise RuntimeError(f"SQLMesh cannot build the project: {error}")

    def due(self, state: State) -> tuple[list[str], str]:
        """Unique ids of what it would build, and why it cannot say; "" if it can."""
        answer = self._ask(state)
        return answer["due"], answer["error"]

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, state: State, **more: str) -> dict[str, Any]:
        # A folder of its own for each, since SQLMesh caches what it loads by path and time.
        project = Path(tempfile.mkdtemp(dir=self._root))
        for name, content in state.files.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_bytes(content.encode())
        environment = {LABEL: "", **state.environment}
        request = {"project": str(project), "environment": environment, **more}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        shutil.rmtree(project)
        if not line:
            raise RuntimeError("SQLMesh has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
