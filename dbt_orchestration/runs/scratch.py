"""The folders that dbt writes to while it runs, one for each run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dbt_orchestration.runs import liveness
from dbt_orchestration.settings.models import Settings

_KEEP = 10


@contextmanager
def scratch_folder(settings: Settings, instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """The folder of a run. It goes with the run, unless that fails: dbt names files in it.

    The last ten of those stay; others, and what killed runs have left, go when a run begins.
    """
    remove_left(settings, instance)
    failed = False
    try:
        yield str(scratch_of(settings, run_id))
    except dg.Failure:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(scratch_of(settings, run_id), ignore_errors=True)


def scratch_of(settings: Settings, run_id: str) -> Path:
    """Where the folder of a run is."""
    return _home(settings) / run_id


def remove_left(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Remove the folders of runs that were killed or stopped, and all but the last that failed."""
    folders = {path.name: path.stat().st_mtime for path in _home(settings).glob("*")}
    if not folders:
        return
    runs = instance.get_runs(dg.RunsFilter(run_ids=list(folders)))
    failed = [run.run_id for run in runs if run.is_finished and _failed(run)]
    kept = set(sorted(failed, key=lambda run_id: -folders[run_id])[:_KEEP])
    # Dagster may take a run for dead that still works.
    kept |= {r.run_id for r in runs if not r.is_finished or liveness.is_alive(instance, r.run_id)}
    for run_id in folders.keys() - kept:
        shutil.rmtree(scratch_of(settings, run_id), ignore_errors=True)


def _failed(run: dg.DagsterRun) -> bool:
    return run.tags.get("dagster/failure_reason") == "STEP_FAILURE"


def _home(settings: Settings) -> Path:
    return settings.state_dir / "runs"
