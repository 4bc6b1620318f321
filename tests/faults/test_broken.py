"""Something around a push is broken, and mended: it ends as if nothing had been, by itself."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from tests.automation.site import Site, prepared_here
from tests.conftest import failure
from tests.faults.broken import FAULTS, Fault
from tests.faults.shop import End


@pytest.fixture(autouse=True)
def _prepare_here() -> Iterator[None]:
    with prepared_here():
        yield


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_it_ends_as_if_nothing_had_been_broken(
    site: Site, undisturbed: End, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load()
    with fault(site) as said:
        assert said in site.build_all()
    # What the commit may not be to blame for is tried again after some minutes.
    monkeypatch.setattr("dbt_orchestration.revisions.follow._RETRY_SECONDS", 0)
    assert "nothing is due" in site.build_all()
    assert End.of(site) == undisturbed


# What is looked at while it is broken


@contextlib.contextmanager
def locked(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Another process has the DuckDB file open."""
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open'); input()"
    process = subprocess.Popen(
        [sys.executable, "-uc", script, str(site.settings.duckdb_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    yield process
    if process.poll() is None:
        process.communicate(b"\n")


@pytest.mark.parametrize("home", ["asked"], indirect=True)
def test_a_run_waits_for_whoever_has_the_duckdb_file_open(
    site: Site, undisturbed: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = site.request()
    with locked(site) as other:
        waited: list[float] = []

        def wait(seconds: float) -> None:
            waited.append(seconds)
            other.communicate(b"\n")

        monkeypatch.setattr("dbt_orchestration.runs.table_locks.sleep", wait)
        assert site.run(request).success
    assert len(waited) == 1
    assert "nothing is due" in site.build_all()
    assert End.of(site) == undisturbed


@pytest.mark.parametrize("home", ["asked"], indirect=True)
def test_whoever_has_it_open_for_too_long_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = site.request()
    monkeypatch.setattr("dbt_orchestration.runs.table_locks._MOST_SECONDS", 0.0)
    with locked(site) as other:
        said = failure(site.run(request))
    assert f"(PID {other.pid})" in said
    assert "close it there, and re-execute this run" in said


@pytest.mark.parametrize("home", ["asked"], indirect=True)
def test_a_file_that_is_gone_is_made_anew_but_for_what_snapshots_kept(
    site: Site, undisturbed: End
) -> None:
    site.settings.duckdb_path.unlink()
    assert "nothing is due" in site.build_all()
    today = {"main.history": ["(10, 225)", "(20, 200)", "(30, 25)"]}
    assert End.of(site) == replace(undisturbed, rows={**undisturbed.rows, **today})


@pytest.mark.parametrize("home", ["asked"], indirect=True)
def test_a_run_that_nobody_works_on_is_ended_and_asked_for_again(
    site: Site, undisturbed: End
) -> None:
    request = site.request()
    run = site.instance.create_run_for_job(
        site.loaded["prod"].resolve_implicit_global_asset_job_def(),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset(request.asset_selection or ()),
    )
    assert f"waiting for run {run.run_id[:8]}" in site.build_all()
    [record] = site.instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    workspace: Any = None
    monitor_started_run(site.instance, workspace, record, logging.getLogger("monitoring"))
    site.instance.add_run_tags(run.run_id, {"dagster/will_retry": "false"})
    assert "nothing is due" in site.build_all()
    assert End.of(site) == undisturbed
