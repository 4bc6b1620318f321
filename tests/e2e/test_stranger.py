"""The wheel, in an environment of its own, serves a dbt project that knows nothing of us."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.automation.site import git
from tests.conftest import REPOSITORY
from tests.e2e.coffee import Coffee

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


# Somebody's own Dagster project, which takes the environment in beside an asset of its own.
_DEFINITIONS = """\
import dagster as dg
from dbt_orchestration import Environment, build_defs

@dg.asset(deps=[dg.AssetKey(["prod", "sales"])])
def theirs() -> None: ...

defs = dg.Definitions.merge(
    dg.Definitions(assets=[theirs]),
    build_defs(Environment(name="prod", project_dir=".", target="here")),
)
"""


def test_a_dagster_project_takes_it_in(command: Path, tmp_path: Path) -> None:
    coffee = Coffee([str(command)], tmp_path)
    (coffee.project / "definitions.py").write_text(_DEFINITIONS)
    dagster = [str(command.with_name("dagster")), "asset", "materialize", "--select", "*"]
    done = subprocess.run(
        [*dagster, "--python-file", "definitions.py"],
        cwd=coffee.project,
        env=coffee.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "Materialized value theirs" in done.stderr
    assert coffee.sales() == [2.5, 3.0]


def test_up_serves_it_follows_its_branch_and_leaves_no_trace_in_git(
    command: Path, tmp_path: Path
) -> None:
    coffee = Coffee([str(command)], tmp_path)
    with coffee.up() as process:
        coffee.until_sales(process, 2.5, 3.0)
        coffee.commit("100", "10")
        coffee.until_sales(process, 25.0, 30.0)
    assert git(coffee.project, "status", "--porcelain") == ""
    assert "First full build of prod: done" in coffee.said
    assert "Traceback" not in coffee.said
    assert "flights" not in coffee.said
