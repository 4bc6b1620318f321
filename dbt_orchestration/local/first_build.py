"""What ``up`` has built first, once Dagster runs: all that was never built, or is gone."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
from dagster_graphql import DagsterGraphQLClient

from dbt_orchestration.dbt.invocation import DbtError, DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.attempts import unfinished_runs
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.held import paused
from dbt_orchestration.ledger.inspection import inspect, ours
from dbt_orchestration.ledger.run_tags import PUSH_TAG, RAW_TAG
from dbt_orchestration.local.dagster_process import HOST, stop_if_interrupted
from dbt_orchestration.location.assets import dbt_assets
from dbt_orchestration.revisions.warehouse import Seen, look_without_waiting
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

if TYPE_CHECKING:
    from dbt_orchestration.local.up import Running

_LOAD_RAW, _FULL_BUILD = "load_raw", "full_build"
# How long the push sensor may take to look again.
_TICK_SECONDS = 60


def _inspect(
    settings: Settings, name: str, revision: Revision, instance: dg.DagsterInstance
) -> None:
    """Look whether what was built is still there. While nothing runs, nobody else would notice."""
    if not any(key.path[0] == name for key in instance.all_asset_keys()):
        return
    keys = dbt_assets(settings, name, revision, settings.pool).keys
    target = DbtTarget.of(settings, name, revision.project_dir)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        contextlib.suppress(DbtError),
    ):

        def ask(nodes: Collection[str]) -> Mapping[str, Seen]:
            return look_without_waiting(target, revision, nodes, scratch)

        inspect(settings, name, instance, revision, keys, ask=ask)


def first_build(dagster: Running) -> None:
    """Look what is there; build, and show, what the first environment that has code lacks."""
    settings, instance = dagster.settings, dagster.instance
    for name, revision in dagster.revisions.items():
        if revision:
            _inspect(settings, name, revision, instance)
    # On any other warehouse than a DuckDB file that is left to a person.
    prepared = ((name, revision) for name, revision in dagster.revisions.items() if revision)
    name, revision = next(prepared, ("", None))
    if settings.warehouse_type != "duckdb" or revision is None or paused(instance, name):
        return
    steps = list(_steps(settings, name, revision, instance))
    if steps and revision.commit:
        _follow_sensor(dagster, name, {job: label for job, label, _ in steps})
        return
    client = DagsterGraphQLClient(HOST, port_number=dagster.port)
    # All at once: they wait for each other in the queue.
    runs = [
        (
            client.submit_job_execution(
                named(name, job),
                repository_location_name=name,
                repository_name="__repository__",
                asset_selection=selected,
            ),
            label,
        )
        for job, label, selected in steps
    ]
    for run_id, label in runs:
        if not _succeeds(dagster, run_id, f"{label} of {name}"):
            return


def _steps(
    settings: Settings, name: str, revision: Revision, instance: dg.DagsterInstance
) -> Iterator[tuple[str, str, Sequence[dg.AssetKey] | None]]:
    """Jobs that build what was never built or is not there, each with what to call it."""
    dbt = dbt_assets(settings, name, revision, settings.pool)
    keys = ours(settings, revision, dbt.keys)
    missing = keys.keys() - read_built(instance, keys).keys()
    nodes = missing & dbt.nodes.keys()
    if missing - nodes:
        yield _LOAD_RAW, "Loading the raw data", None
    if nodes == dbt.nodes.keys():
        yield _FULL_BUILD, "First full build", None
    elif nodes:
        yield _FULL_BUILD, "Building what is not there", sorted(keys[u] for u in nodes)


def _follow_sensor(dagster: Running, name: str, labels: Mapping[str, str]) -> None:
    """Show what the push sensor builds first, until it has nothing to build."""
    tags = {RAW_TAG: labels.get(_LOAD_RAW, ""), PUSH_TAG: labels.get(_FULL_BUILD, "")}
    since, patience = time.time(), time.monotonic() + _TICK_SECONDS
    while time.monotonic() < patience:
        stop_if_interrupted()
        for run in unfinished_runs(dagster.instance):
            for tag, label in tags.items():
                if run.tags.get(tag) == name:
                    done = _succeeds(dagster, run.run_id, f"{label} of {name}")
                    if not done or tag == PUSH_TAG:
                        return
                    since, patience = time.time(), time.monotonic() + _TICK_SECONDS
        for tick in dagster.ticks(name, 1):
            if tick.timestamp >= since and tick.status.name in ("SKIPPED", "FAILURE"):
                return
        time.sleep(0.5)


def _succeeds(dagster: Running, run_id: str, label: str) -> bool:
    started = time.monotonic()
    status = dagster.follow(run_id, label)
    if status is not dg.DagsterRunStatus.SUCCESS:
        dagster.console.print(
            f"[red]{label}: {status.value.lower()}.[/]"
            f" See http://localhost:{dagster.port}/runs/{run_id}"
        )
        return False
    dagster.console.print(f"{label}: done in {time.monotonic() - started:.1f} s.")
    return True
