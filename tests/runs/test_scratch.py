"""What dbt wrote for a run goes, unless somebody may want to look at it."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from dbt_orchestration.runs.scratch import remove_left, scratch_of
from tests.conftest import make_settings


def test_what_is_left_is_of_runs_that_go_on_and_of_the_last_that_failed(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbt_orchestration.runs.scratch._KEEP", 1)
    settings, ids = make_settings(tmp_path), dict[str, str]()
    failed = {"dagster/failure_reason": "STEP_FAILURE"}
    status = dg.DagsterRunStatus
    for number, (name, tags, state) in enumerate(
        [
            ("failed", failed, status.FAILURE),
            ("failed later", failed, status.FAILURE),
            ("killed", {}, status.FAILURE),
            ("stopped", {}, status.CANCELED),
            ("started", {}, status.STARTED),
        ]
    ):
        run = instance.create_run_for_job(_job, tags=tags, status=state)
        ids[run.run_id] = name
        folder = scratch_of(settings, run.run_id)
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    scratch_of(settings, "of a run that was deleted").mkdir()
    remove_left(settings, instance)
    left = scratch_of(settings, "").iterdir()
    assert {ids[path.name] for path in left} == {"failed later", "started"}


@dg.job
def _job() -> None:
    pass
