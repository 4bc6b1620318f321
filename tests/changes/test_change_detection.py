"""The plan beside other ways to see what changed: that they are asked, and asked fairly.

SQLMesh needs an environment of its own: ``python -m benchmarks.change_detection run`` asks it too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.change_detection import (
    CODE_VERSION,
    MODIFIED,
    NORMALIZED,
    PLAN,
    Compared,
    canonical,
    table,
    with_descendants,
)
from tests.conftest import REPOSITORY

SEED = 7


def test_every_way_that_needs_no_other_environment_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "edits.jsonl"
    command = ["run", str(file), "--edits", "2", "--seed", str(SEED), "--without-sqlmesh"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.change_detection", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    commits = [Compared(**json.loads(line)) for line in file.read_text().splitlines()]
    assert [set(commit.said) for commit in commits] == [
        {PLAN, MODIFIED, NORMALIZED, CODE_VERSION}
    ] * 2
    assert any(commit.differ for commit in commits)
    for commit in commits:
        assert set(commit.differ) <= set(commit.said[PLAN])
    for way in (PLAN, MODIFIED, NORMALIZED, CODE_VERSION):
        assert way in done.stdout


@pytest.mark.parametrize(
    "same",
    [
        "SELECT a.x FROM t AS a /* words */",
        "select b.x\nfrom t as b",
    ],
)
def test_normalized_sql_does_not_mind_how_it_is_written(same: str) -> None:
    assert canonical(same) == canonical("select a.x from t as a")


@pytest.mark.parametrize("other", ["select a.y from t as a", "select a.x from u as a", "select 1"])
def test_normalized_sql_of_something_else_is_other_sql(other: str) -> None:
    assert canonical(other) != canonical("select a.x from t as a")


def test_what_cannot_be_parsed_stays_as_it_is() -> None:
    assert canonical("select from from") == "select from from"


def test_descendants_are_those_of_descendants_too() -> None:
    manifest = {"child_map": {"a": ["b"], "b": ["c"], "d": []}}
    assert with_descendants(manifest, ["a"]) == {"a", "b", "c"}


def test_a_commit_that_sqlmesh_cannot_load_counts_for_nobody() -> None:
    good = Compared(1, 0, ["kind"], True, ["a"], {PLAN: ["a"], NORMALIZED: ["a", "b"]})
    bad = Compared(1, 1, ["kind"], True, ["a"], {PLAN: [], NORMALIZED: []}, error="cannot")
    _, _, recall, precision, *_ = (list(column.cells) for column in table([good, bad]).columns)
    assert (recall, precision) == (["1.000", "1.000"] * 2, ["1.00", "0.50"] * 2)
