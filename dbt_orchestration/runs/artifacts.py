"""What dbt writes, kept with a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from dbt_orchestration.dbt.internals import sessions


def artifacts_folder(instance: dg.DagsterInstance, run_id: str) -> Path:
    """The folder for it, beside what Dagster itself keeps of the run."""
    folder = Path(instance.storage_directory()) / run_id / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep_results(instance: dg.DagsterInstance, run_id: str, result: Any) -> None:
    """Keep what a dbt command of the run came to: run_results.json, then run_results_2.json …

    Args:
        result: what dbt's ``dbtRunner`` returns of nodes.
    """
    folder = artifacts_folder(instance, run_id)
    count = len([*folder.glob("run_results*.json")])
    name = f"run_results_{count + 1}.json" if count else "run_results.json"
    sessions.write_results(result, folder / name)
