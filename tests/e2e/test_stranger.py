"""The wheel, in an environment of its own, serves a dbt project that knows nothing of us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from tests.automation.site import git
from tests.conftest import REPOSITORY
from tests.e2e.running import PATIENCE, free_port, until
from tests.test_found import commit_all, make_project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as it is after ``pip install dbt-orchestration[duckdb]``."""
    folder = tmp_path_factory.mktemp("installed")
    uv = REPOSITORY / ".uv" / "bin" / "uv"
    tool = str(uv) if uv.is_file() else "uv"

    def run(*arguments: str) -> None:
        subprocess.run([tool, *arguments], cwd=REPOSITORY, check=True, capture_output=True)

    run("build", "--quiet", "--out-dir", str(folder))  # the wheel is built from the sdist
    [wheel] = folder.glob("*.whl")
    # The versions that are locked, so that nothing has to be resolved.
    export = ("export", "--quiet", "--locked", "--no-dev", "--extra", "duckdb", "--no-emit-project")
    run(*export, "--no-hashes", "--output-file", str(folder / "locked.txt"))
    run("venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    python = str(folder / "venv" / "bin" / "python")
    run("pip", "install", "--quiet", "--python", python, "-r", str(folder / "locked.txt"))
    run("pip", "install", "--quiet", "--no-deps", "--python", python, f"{wheel}[duckdb]")
    return folder / "venv" / "bin" / "dbt-orchestration"


def test_up_serves_it_follows_its_branch_and_leaves_no_trace_in_git(
    command: Path, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "coffee")
    (project / ".gitignore").write_text("*.duckdb*\n")
    git(project, "init", "--quiet", "--initial-branch=trunk")
    commit_all(project)
    log = tmp_path / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(command), "up", "--port", str(free_port())],
            cwd=project,
            env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def sales(expected: list[tuple[float]]) -> bool | None:
        assert process.poll() is None, log.read_text()
        # While a run writes the file, nobody else can read it.
        with suppress(duckdb.Error), duckdb.connect(str(project / "coffee.duckdb")) as connection:
            found = connection.execute("select euros from shop.sales order by 1").fetchall()
            return True if found == expected else None
        return None

    try:
        until(lambda: (project / "coffee.duckdb").is_file() or None)
        until(lambda: sales([(2.5,), (3.0,)]))
        model = project / "models" / "sales.sql"
        model.write_text(model.read_text().replace("100", "10"))
        commit_all(project, "in dimes")
        until(lambda: sales([(25.0,), (30.0,)]))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE)
    assert git(project, "status", "--porcelain") == ""
    said = log.read_text()
    assert "First full build of prod: done" in said
    assert "Traceback" not in said
    assert "flights" not in said
