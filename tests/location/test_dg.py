"""Dagster's own command ``dg``, in a Dagster project that somebody begins with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.automation.site import git
from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "dagster_project"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A Dagster project that has no environment yet, and its dbt project, in git."""
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLE, folder)
    shutil.rmtree(folder / "src" / "warehouse" / "defs" / "orders")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def dg_command(project: Path, *arguments: str) -> str:
    """What ``dg`` prints."""
    variables = {
        "WAREHOUSE": str(project.parent / "orders.duckdb"),
        "DAGSTER_DG_CLI_TELEMETRY": "0",
        "DAGSTER_HOME": str(project.parent),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(project / "src")]),
        "COLUMNS": "200",
        "VIRTUAL_ENV": sys.prefix,
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dg")), *arguments],
        cwd=project,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dg_scaffolds_checks_and_lists_an_environment(project: Path) -> None:
    kind = "dbt_orchestration.DbtEnvironmentComponent"
    dg_command(project, "scaffold", "defs", kind, "warehouse", "--project-path", "dbt")
    written = project / "src" / "warehouse" / "defs" / "warehouse" / "defs.yaml"
    assert f"type: {kind}" in written.read_text()
    assert "loaded successfully" in dg_command(project, "check", "defs")
    listed = dg_command(project, "list", "defs")
    assert "customers" in listed
    assert "prod_push" in listed
    assert "prod_full_build_schedule" in listed
