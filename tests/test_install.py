"""The first thing a newcomer runs: what it says when the machine is not ready."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("install.sh", "uv.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def install(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["./install.sh"],
        cwd=checkout,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wrong_python_is_one_line(checkout: Path) -> None:
    done = install(checkout, PYTHON="no-such-python")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "error: no Python 3.11, 3.12 or 3.13 found (looked for: no-such-python):"
        " install one, or name it: make PYTHON=/path/to/python3.12 up\n"
    )


def test_no_network_is_one_line(checkout: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    done = install(
        checkout,
        HTTPS_PROXY=nowhere,
        HTTP_PROXY=nowhere,
        ALL_PROXY=nowhere,
        PIP_RETRIES="0",
        UV_HTTP_RETRIES="0",
        UV_CACHE_DIR=str(tmp_path / "empty"),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot download")
    assert len(done.stderr.splitlines()) == 1


def test_installed_already_is_quick_and_silent() -> None:
    install(REPOSITORY)
    done = install(REPOSITORY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_installed_goes_together() -> None:
    """The warnings with which a package says that it does not know a version of another."""
    imported = subprocess.run(
        [
            sys.executable,
            "-c",
            "import dbt_orchestration.location.definitions, snowflake.connector, sqlglot",
        ],
        env=os.environ | {"PYTHONWARNINGS": "default:::sqlglotrs,default::UserWarning"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stderr == ""
