"""What is tested with Dagster on SQLite, with Dagster on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain

import pytest

from tests.conftest import REPOSITORY, day
from tests.instances import ON_POSTGRES

pytest.importorskip("dagster_postgres", reason="pip install '.[postgres]'")

# By what is tried; each file in a process of its own.
LISTS = {
    "pushes": ["automation/test_push.py", "automation/test_taken_back.py"],
    "backfills": ["automation/test_history.py", "automation/test_failures.py"],
    "forms": [
        *("automation/test_rebuild.py", "automation/test_held.py", "automation/test_put_back.py"),
        *("automation/test_adopt.py", "operations/test_resume.py", "operations/test_run_now.py"),
    ],
    "ledger": ["ledger/test_ledger.py", "automation/test_renamed.py"],
}

# `make test` comes here every fourth day, and tries a few cases of one list of each kind.
_TODAYS = [files[day() // 4 % len(files)] for files in LISTS.values()]
_SOME = os.environ.get("CASES") == "some"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", _TODAYS if _SOME else [*chain(*LISTS.values())])
def test_the_same_holds_on_postgresql(path: str, url: str) -> None:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"tests/{path}"],
        cwd=REPOSITORY,
        env={**ours, ON_POSTGRES: url, "CASES": "few" if _SOME else "all"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
