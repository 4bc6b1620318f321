"""The folder that dbt writes to while a run works."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dbt_orchestration import liveness
from dbt_orchestration.settings import Settings

_ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


@contextmanager
def scratch_folder(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """A folder of the run, which is gone when the run has ended, however it ends.

    A process that is killed leaves its folder; the next run removes it.
    """
    home = settings.state_dir / "runs"
    _remove_left(home, instance)
    try:
        yield str(home / run_id)
    finally:
        shutil.rmtree(home / run_id, ignore_errors=True)


def _remove_left(home: Path, instance: dg.DagsterInstance) -> None:
    if not home.is_dir() or not (left := [folder.name for folder in home.iterdir()]):
        return
    for run in instance.get_runs(dg.RunsFilter(run_ids=left, statuses=_ENDED)):
        # Dagster may take a run for dead that still works.
        if not liveness.is_alive(instance, run.run_id):
            shutil.rmtree(home / run.run_id, ignore_errors=True)
