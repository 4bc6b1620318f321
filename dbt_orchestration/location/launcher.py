"""Dagster's default launcher, which also tells whether the process of a run is alive.

Without that, run monitoring does nothing about a run that has started: killed together with its
code server, it would stay "started" for ever, and whatever needs its warehouse would wait for it.
On Kubernetes Dagster's own ``K8sRunLauncher`` does the same.
"""

from __future__ import annotations

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.dagster_internals import (
    CheckRunHealthResult,
    DefaultRunLauncher,
    WorkerStatus,
)
from dbt_orchestration.runs import liveness


class LocalRunLauncher(DefaultRunLauncher):
    """Launches runs as processes of their code server: see ``dagster.yaml``, ``run_launcher``."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: run monitoring asks ``check_run_worker_health`` of each run that has started."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run's code server still has its process, or the process outlives it."""
        if dagster_internals.is_executing(self, run.run_id) or liveness.is_alive(
            self._instance, run.run_id
        ):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "The process of the run, or its code server, was killed."
        )
